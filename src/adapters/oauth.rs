//! Access tokens for a relay (OAuth 2.0): keeps one in memory and renews it in time.
//!
//! However many callers need a token at once, the token endpoint receives one request. It runs in a
//! task of its own, so that a caller whose time is up does not end it for the others. Must not log
//! a token, a secret or the text of an answer.

mod answer;
mod claims;
mod error;
mod request;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::answer::GrantedToken;
pub use self::claims::TokenClaims;
use self::error::TokenFailure;
pub use self::error::{TokenCause, TokenError, TokenRefusal};
use super::http::HttpClient;
use crate::domain::oauth::OAuthClient;
use crate::ports::Clock;

/// Time limit for connecting to the token endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Time limit for a request, including the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Time after a failure in which the token endpoint is not asked again.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause that the token endpoint can ask for.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Minimum time between two renewals because the relay refused a token. A relay that refuses fresh
/// tokens too has another reason to.
const REFUSAL_PAUSE: Duration = Duration::from_secs(30);

/// An access token.
#[derive(Clone)]
pub struct AccessToken {
    token: Arc<SecretString>,
    /// Distinguishes it from the other tokens of its source.
    number: u64,
    issued: Instant,
    life: Duration,
}

/// The access tokens of one relay.
pub struct TokenSource {
    shared: Arc<TokenStore>,
}

struct TokenStore {
    client: OAuthClient,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    token: Option<AccessToken>,
    /// Number of tokens so far.
    issued: u64,
    /// The request in progress; it ends when the sender is dropped.
    request: Option<watch::Receiver<()>>,
    failure: Option<(TokenCause, Instant)>,
    /// When a token was last renewed because the relay refused it.
    refused: Option<Instant>,
    /// The refresh token that replaced the one of the settings.
    refresh_token: Option<SecretString>,
}

impl TokenSource {
    /// Creates a source. Does not send a request yet.
    #[must_use]
    pub fn new(client: OAuthClient, http: HttpClient, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(TokenStore { client, http, clock, state: Mutex::default() }) }
    }

    /// Returns the mailbox that the tokens are for.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.shared.client.username
    }

    /// Returns the token, and requests one if there is none, or if it has expired. After 80 % of
    /// its life a token is renewed while it is still used.
    ///
    /// # Errors
    /// [`TokenError`] if there is no token by `deadline`.
    pub async fn token(&self, deadline: Instant) -> Result<AccessToken, TokenError> {
        let mut has_waited = false;
        loop {
            let now = Instant::now();
            let mut request = {
                let mut state = self.shared.state();
                let usable = state.token.clone().filter(|token| now < token.expires());
                if let Some(token) = &usable
                    && now < token.renewal()
                {
                    return Ok(token.clone());
                }
                state.end_lost_request(now);
                if let Some(cause) = state.recent_failure(now) {
                    return usable.ok_or_else(|| TokenError::new(cause.clone(), !has_waited));
                }
                let request = self.shared.request(&mut state);
                if let Some(token) = usable {
                    return Ok(token);
                }
                request
            };
            // Nothing is ever sent: the wait ends with the request.
            let ended = timeout_at(deadline, request.changed()).await;
            if ended.is_err() {
                return Err(TokenError::new(TokenCause::Timeout, false));
            }
            has_waited = true;
        }
    }

    /// Returns another token if the relay has refused this one. Returns `None` if a renewal is
    /// useless, because there has just been one for this reason.
    ///
    /// # Errors
    /// [`TokenError`] if there is no token by `deadline`.
    pub async fn renew(
        &self,
        refused: &AccessToken,
        deadline: Instant,
    ) -> Result<Option<AccessToken>, TokenError> {
        let now = Instant::now();
        {
            let mut state = self.shared.state();
            // Otherwise another caller has renewed it already.
            if state.token.as_ref().is_some_and(|token| token.number == refused.number) {
                if state.refused.is_some_and(|before| now < before + REFUSAL_PAUSE) {
                    return Ok(None);
                }
                state.refused = Some(now);
                state.token = None;
            }
        }
        self.token(deadline).await.map(Some)
    }
}

impl TokenState {
    /// Returns why the last request failed, if it is too early for another.
    fn recent_failure(&self, now: Instant) -> Option<&TokenCause> {
        self.failure.as_ref().filter(|(_, until)| now < *until).map(|(cause, _)| cause)
    }

    /// Keeps the outcome of a request.
    fn finish(&mut self, outcome: Result<GrantedToken, TokenFailure>, begun: Instant) {
        self.request = None;
        match outcome {
            Ok(GrantedToken { token, life, refresh_token }) => {
                if refresh_token.is_some() {
                    self.refresh_token = refresh_token;
                }
                self.issued += 1;
                let token = AccessToken { token: Arc::new(token), number: self.issued, issued: begun, life };
                let now = Instant::now();
                // Otherwise the endpoint would be asked again without a pause.
                if token.expires() <= now {
                    self.failure = Some((TokenCause::Expired, now + FAILURE_PAUSE));
                    return;
                }
                self.token = Some(token);
                self.failure = None;
            }
            Err(TokenFailure { cause, retry_after }) => {
                self.failure = Some((cause, Instant::now() + retry_after.clamp(FAILURE_PAUSE, MAX_PAUSE)));
            }
        }
    }

    /// Ends a request whose task panicked: nobody else would, and nobody could begin another.
    fn end_lost_request(&mut self, now: Instant) {
        if self.request.as_ref().is_some_and(|request| request.has_changed().is_err()) {
            self.finish(Err(TokenCause::Request("the request for a token panicked").into()), now);
        }
    }
}

impl TokenStore {
    /// Returns the request in progress, or begins one.
    fn request(self: &Arc<Self>, state: &mut TokenState) -> watch::Receiver<()> {
        if let Some(request) = &state.request {
            return request.clone();
        }
        let (sender, request) = watch::channel(());
        state.request = Some(request.clone());
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let begun = Instant::now();
            let rotated = shared.state().refresh_token.clone();
            let outcome = shared.ask(rotated.as_ref()).await;
            shared.report(&outcome, rotated.as_ref());
            shared.state().finish(outcome, begun);
            drop(sender);
        });
        request
    }

    async fn ask(&self, rotated: Option<&SecretString>) -> Result<GrantedToken, TokenFailure> {
        let request = request::request(&self.client, rotated, self.clock.now())?;
        let now = Instant::now();
        let sent = self.http.send(request, now + CONNECT_TIMEOUT, now + REQUEST_TIMEOUT).await;
        let answer = sent.map_err(|error| TokenCause::Http(Arc::new(error)))?;
        answer::parse(answer.status, &answer.body)
            .map_err(|cause| TokenFailure { cause, retry_after: answer.retry_after() })
    }

    /// Logs a failure, and once that the refresh token of the settings was replaced.
    fn report(&self, outcome: &Result<GrantedToken, TokenFailure>, rotated: Option<&SecretString>) {
        let endpoint = self.client.token_url.host().to_string();
        match outcome {
            Err(TokenFailure { cause, .. }) => {
                let error = cause.to_string();
                tracing::warn!(endpoint, error, "no access token for the relay");
            }
            Ok(grant) if rotated.is_none() && self.client.replaces(grant.refresh_token.as_ref()) => {
                tracing::warn!(
                    endpoint,
                    "the token endpoint replaced the refresh token: otpd keeps the new one in memory only, and \
                     the one of the settings may not work after a restart"
                );
            }
            Ok(_) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessToken {
    /// Returns the token, to log in with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.token.expose_secret()
    }

    /// Returns how long the token is valid from the moment of its request on.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// Returns what the token says about itself, if it is a JWT. Nothing of it is verified.
    #[must_use]
    pub fn claims(&self) -> Option<TokenClaims> {
        TokenClaims::read(self.expose())
    }

    /// Returns when it is to be renewed: after 80 % of its life.
    fn renewal(&self) -> Instant {
        self.issued + self.life / 5 * 4
    }

    fn expires(&self) -> Instant {
        self.issued + self.life
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(***)")
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("client", &self.shared.client).finish_non_exhaustive()
    }
}
