//! Who may call the two simple endpoints.

/// Who may call the two simple endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimpleAccess {
    /// Everybody.
    Open,
    /// Callers with an API key.
    Keyed,
    /// Nobody: the endpoints are not found.
    Off,
}
