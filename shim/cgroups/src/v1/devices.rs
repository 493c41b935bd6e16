//! Device rules as cgroup v1 takes them. Source: kernel `cgroup-v1/devices.rst`.

use crate::device_rules::{DeviceKind, MKNOD, READ, Rule, WRITE};
use crate::setting::Setting;

/// The writes for the rules, in their order.
pub fn settings(rules: &[Rule]) -> Vec<Setting> {
    rules.iter().map(setting).collect()
}

fn setting(rule: &Rule) -> Setting {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let kind = match rule.kind {
        DeviceKind::All => return Setting::new("devices", file, "a"),
        DeviceKind::Block => 'b',
        DeviceKind::Char => 'c',
    };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access: String = letters
        .into_iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    let value = format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
    Setting::new("devices", file, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_rules::tests::rules;

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let rules = rules(
            r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
            {"allow":true,"type":"b","major":8,"access":"r"}]"#,
        );
        let written: Vec<_> = settings(&rules)
            .into_iter()
            .take(4)
            .map(|s| (s.file, s.value))
            .collect();
        let expected = [
            ("devices.deny", "a"),
            ("devices.allow", "c 10:229 rw"),
            ("devices.allow", "b 8:* r"),
            ("devices.allow", "c *:* m"),
        ];
        assert_eq!(written, expected.map(|(file, value)| (file.into(), value.to_owned())));
    }
}
