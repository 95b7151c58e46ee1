//! Faults of names that otpd does not know, with the name that was meant.

use super::fault::Fault;
use super::names::{self, Names, Spelling};
use super::source::Sources;
use super::value::Layer;

impl Sources {
    /// Returns the fault of a name that is no setting.
    pub(super) fn unknown(&self, names: &Names, layer: &Layer, name: String) -> Fault {
        let is_tenants = ["tenant", "tenants"].contains(&name.as_str()) || name.starts_with("tenants.");
        if layer.spelling() == Spelling::Document && is_tenants {
            let what = format!("is not a table of otpd (in {layer}): put each tenant below [[tenants]]");
            return Fault { line: "[[tenants]]".to_owned(), name, what };
        }
        let what = format!("is not a setting of otpd (in {layer})");
        match names.meant(layer.spelling(), &name) {
            Some((meant, meaning)) => {
                let line = self.line(layer, meant, &meaning.key, meaning.is_path);
                Fault { name, what: format!("{what}; did you mean {meant}?"), line }
            }
            None => Fault { line: format!("# {name}"), name, what: format!("{what}: remove it") },
        }
    }

    /// Returns the fault of a key that no tenant has.
    pub(super) fn unknown_of_tenant(&self, names: &Names, layer: &Layer, number: usize, key: &str) -> Fault {
        let name = format!("tenants.{number}.{key}");
        if names.meaning(Spelling::Document, key).is_some() {
            let (section, _) = key.split_once('.').unwrap_or_default();
            let what = format!("is a setting of all tenants together (in {layer}): set it in [{section}]");
            return Fault { line: self.line(layer, key, key, false), name, what };
        }
        let near = Names::meant_of_tenant(&names::TENANT_KEYS, key);
        let what = format!("is not a setting of a tenant (in {layer}); did you mean {near}?");
        let nearest = format!("tenants.{number}.{near}");
        Fault { line: self.line(layer, &nearest, &nearest, false), name, what }
    }
}
