//! A mailer that is slow, refuses emails, or leaves it unknown whether it accepted them.
//!
//! Must not deliver an email that it refuses: nobody may have the code.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::sleep;

use super::{FaultInjector, cause};
use crate::domain::fault_plan::InjectedFault;
use crate::ports::{CodeMail, Content, Delivery, MailError, Mailer};
use crate::random::{self, SysError};

/// Injects faults in front of another mailer.
pub struct FaultyMailer {
    inner: Arc<dyn Mailer>,
    injector: Arc<FaultInjector>,
}

impl FaultyMailer {
    /// Creates a mailer that hands what it spares to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Mailer>, injector: Arc<FaultInjector>) -> Self {
        Self { inner, injector }
    }

    fn fault(&self) -> Result<Option<InjectedFault>, SysError> {
        for fault in [InjectedFault::Send, InjectedFault::Unknown] {
            if self.injector.injects(fault)? {
                return Ok(Some(fault));
            }
        }
        Ok(None)
    }

    /// Loses the connection before or after the email was accepted, with equal chances.
    async fn lose_connection(&self, mail: &CodeMail) -> Delivery {
        match random::bytes() {
            Ok([byte]) if byte.is_multiple_of(2) => _ = self.inner.deliver(mail).await,
            Ok(_) => {}
            Err(error) => return Delivery::Unknown(MailError::new(error)),
        }
        Delivery::Unknown(MailError::new(cause(InjectedFault::Unknown)))
    }
}

#[async_trait]
impl Mailer for FaultyMailer {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        sleep(self.injector.plan.slow()).await;
        match self.fault() {
            Ok(None) => self.inner.deliver(mail).await,
            Ok(Some(InjectedFault::Unknown)) => self.lose_connection(mail).await,
            Ok(Some(fault)) => Delivery::Refused(MailError::new(cause(fault))),
            Err(error) => Delivery::Refused(MailError::new(error)),
        }
    }

    /// Injects nothing, because nothing is handed over.
    fn compose(&self, mail: &CodeMail) -> Result<Content, MailError> {
        self.inner.compose(mail)
    }
}
