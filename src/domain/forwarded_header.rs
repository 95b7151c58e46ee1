//! The request headers in which proxies pass on the client's address.

/// The header in which trusted proxies pass on the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: a list to which each proxy appends.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list to which each proxy appends.
    Forwarded,
    /// A header with one address that the proxy overwrites, by its name in lower case.
    Single(&'static str),
}

impl ForwardedHeader {
    /// All headers that can be configured.
    pub const ALL: [Self; 13] = [
        Self::XForwardedFor,
        Self::Forwarded,
        Self::Single("x-real-ip"),
        Self::Single("x-client-ip"),
        Self::Single("x-cluster-client-ip"),
        Self::Single("x-envoy-external-address"),
        Self::Single("x-azure-clientip"),
        Self::Single("x-appengine-user-ip"),
        Self::Single("cf-connecting-ip"),
        Self::Single("do-connecting-ip"),
        Self::Single("fastly-client-ip"),
        Self::Single("fly-client-ip"),
        Self::Single("true-client-ip"),
    ];

    /// Returns the header's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::Single(name) => name,
        }
    }
}
