//! A fault in the settings, and the line that fixes it.
//!
//! Must not hold the value of any setting, because a secret may have been set in the wrong layer.

use std::fmt;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(super) name: String,
    pub(super) what: String,
    pub(super) line: String,
}

/// All faults; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub(super) Vec<Fault>);

impl Fault {
    /// Returns the setting or file that has the fault.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Faults {
    /// Iterates over the faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- {}: {}\n    {}", self.name, self.what, self.line)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_followed_by_the_line_that_mends_it() {
        let fault =
            |name: &str| Fault { name: name.into(), what: "is missing".into(), line: format!("{name}=x") };
        let shown = Faults(vec![fault("A"), fault("B")]).to_string();
        assert_eq!(shown, "- A: is missing\n    A=x\n- B: is missing\n    B=x");
    }
}
