//! The environment of a process: in the spec's order, each name once. Source: runc `prepareEnv`.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// The spec's variables; of a name that is there twice the last one counts.
pub fn of(said: &[String]) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut env = Vec::with_capacity(said.len());
    for variable in said.iter().rev() {
        let fault = |why: &str| Error::invalid(format!("environment variable \"{}\"", variable.escape_debug()), why);
        match variable.split_once('=') {
            None => return Err(fault("it has no \"=\"")),
            Some(("", _)) => return Err(fault("it has no name")),
            Some((name, _)) if seen.insert(name) => env.push(variable.clone()),
            Some(_) => {}
        }
        if variable.contains('\0') {
            return Err(fault("it holds a zero byte"));
        }
    }
    env.reverse();
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_specs_and_the_last_of_a_name_counts() {
        let said = ["A=1", "PATH=/", "B=2", "A=3"].map(str::to_owned);
        assert_eq!(of(&said).unwrap(), ["PATH=/", "B=2", "A=3"]);
        for bad in ["A", "=b", "A=\0"] {
            assert!(of(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
