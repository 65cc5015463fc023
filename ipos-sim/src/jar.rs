//! Cookies of a client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client's cookies: what answers set goes with every later request of the scripts that share the jar. Attributes are
/// not heeded.
#[derive(Clone, Debug, Default)]
pub struct Jar(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    cookies: BTreeMap<String, String>,
    set: u64,
}

impl Jar {
    /// A jar with one cookie.
    pub fn with(name: &str, value: &str) -> Jar {
        let jar = Jar::default();
        jar.put(name, value);
        jar
    }

    /// The value of a cookie.
    pub fn get(&self, name: &str) -> Option<String> {
        self.contents().cookies.get(name).cloned()
    }

    /// How many cookies answers have set so far, the same ones again included.
    pub fn times_set(&self) -> u64 {
        self.contents().set
    }

    /// Takes the cookies of an answer.
    pub(crate) fn take(&self, cookies: &[(String, String)]) {
        for (name, value) in cookies {
            self.put(name, value);
            self.contents().set += 1;
        }
    }

    /// The field for a request, with its line end; empty where there are no cookies.
    pub(crate) fn field(&self) -> String {
        let contents = self.contents();
        let pairs = contents.cookies.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match pairs.is_empty() {
            true => String::new(),
            false => format!("Cookie: {}\r\n", pairs.join("; ")),
        }
    }

    fn put(&self, name: &str, value: &str) {
        let mut contents = self.contents();
        contents.cookies.insert(name.into(), value.into());
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts() {
        let jar = Jar::default();
        assert_eq!((jar.field(), jar.get("a")), (String::new(), None));
        let cookie = |name: &str, value: &str| (name.to_string(), value.to_string());
        jar.take(&[cookie("b", "1"), cookie("a", "2"), cookie("b", "3")]);
        assert_eq!(jar.field(), "Cookie: a=2; b=3\r\n");
        assert_eq!((jar.get("b"), jar.times_set()), (Some("3".into()), 3));
    }
}
