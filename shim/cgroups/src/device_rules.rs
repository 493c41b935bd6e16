//! The device rules of a container, for both cgroup versions.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// May make a node.
pub const MKNOD: u8 = 1;
/// May read.
pub const READ: u8 = 2;
/// May write.
pub const WRITE: u8 = 4;

/// What kind of device a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Every device, whatever its numbers; the access does not matter either.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// One rule; later ones change what earlier ones said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether it gives or takes.
    pub allow: bool,
    /// For which kind.
    pub kind: DeviceKind,
    /// Major number; none is any.
    pub major: Option<u32>,
    /// Minor number; none is any.
    pub minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u8,
}

/// What every container may use, after its own rules: make any node, and open the harmless ones.
/// Source: runc, `specconv.AllowedDevices`.
const ALWAYS: [Rule; 10] = [
    always(DeviceKind::Char, None, None, MKNOD),
    always(DeviceKind::Block, None, None, MKNOD),
    harmless(1, Some(3)),
    harmless(1, Some(8)),
    harmless(1, Some(7)),
    harmless(5, Some(0)),
    harmless(1, Some(5)),
    harmless(1, Some(9)),
    harmless(136, None),
    harmless(5, Some(2)),
];

const fn always(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

const fn harmless(major: u32, minor: Option<u32>) -> Rule {
    always(DeviceKind::Char, Some(major), minor, MKNOD | READ | WRITE)
}

/// The spec's rules, in their order, and what is always allowed.
pub fn of_spec(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    rules.iter().filter_map(parse).chain(ALWAYS).collect()
}

fn parse(rule: &LinuxDeviceCgroup) -> Option<Rule> {
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let access = rule.access().as_deref().filter(|access| !access.is_empty());
    let bits = access.unwrap_or("rwm").bytes().map(|letter| match letter {
        b'r' => READ,
        b'w' => WRITE,
        b'm' => MKNOD,
        _ => 0,
    });
    Some(Rule {
        allow: rule.allow(),
        kind: match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => DeviceKind::All,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            // A FIFO is no device.
            LinuxDeviceType::P => return None,
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: bits.fold(0, |all, bit| all | bit),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The rules in the JSON of a spec.
    pub fn rules(json: &str) -> Vec<Rule> {
        let resources = format!(r#"{{"devices":{json}}}"#);
        let resources: oci_spec::runtime::LinuxResources = serde_json::from_str(&resources).unwrap();
        of_spec(resources.devices().as_ref().unwrap())
    }

    #[test]
    fn the_specs_rules_come_first_and_in_order() {
        let rules = rules(
            r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
            {"allow":true,"type":"p"},{"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]"#,
        );
        assert_eq!(rules.len(), 3 + ALWAYS.len());
        assert_eq!((rules[0].allow, rules[0].kind), (false, DeviceKind::All));
        assert_eq!((rules[1].major, rules[1].access), (Some(10), READ | WRITE));
        assert_eq!((rules[2].major, rules[2].minor), (Some(8), None));
    }
}
