//! The program for a list of device rules.

use crate::device_rules::{DeviceKind, Rule};

/// One instruction. Source: kernel `Documentation/bpf/standardization/instruction-set.rst`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers: the result, the context and a scratch, then what the context holds.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// What differs from the default, as the kernel keeps it for cgroup v1 (`security/device_cgroup.c`): with rules that
/// change each other it is this, and not the list, that answers a question with one pass.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    allowed_by_default: bool,
    exceptions: Vec<Rule>,
}

impl Table {
    fn of(rules: &[Rule]) -> Self {
        let mut table = Self::default();
        for rule in rules {
            table.take(rule);
        }
        table
    }

    fn take(&mut self, rule: &Rule) {
        if rule.kind == DeviceKind::All {
            *self = Self {
                allowed_by_default: rule.allow,
                exceptions: Vec::new(),
            };
            return;
        }
        let same = |one: &&mut Rule| one.kind == rule.kind && one.major == rule.major && one.minor == rule.minor;
        let known = self.exceptions.iter_mut().find(same);
        match (rule.allow != self.allowed_by_default, known) {
            (true, Some(known)) => known.access |= rule.access,
            (true, None) => self.exceptions.push(*rule),
            (false, Some(known)) => known.access &= !rule.access,
            (false, None) => {}
        }
        self.exceptions.retain(|one| one.access != 0);
    }
}

/// A program that answers 1 where the rules, in their order, allow the access, and 0 where not.
pub fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let table = Table::of(rules);
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access in access_type's upper half.
        load(KIND, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        register(MOVE_REGISTER, ACCESS, KIND, 0),
        immediate(SHIFT_RIGHT, ACCESS, 16, 0),
        immediate(AND, KIND, 0xffff, 0),
    ];
    for exception in &table.exceptions {
        program.extend(decide(exception, table.allowed_by_default));
    }
    program.extend(answer(table.allowed_by_default));
    program
}

/// Answers if the exception applies, and goes on to the next where not.
fn decide(exception: &Rule, allowed_by_default: bool) -> Vec<Instruction> {
    let kind = if exception.kind == DeviceKind::Block {
        BLOCK
    } else {
        CHAR
    };
    let mut checks = vec![
        immediate(JUMP_UNLESS_EQUAL, KIND, kind, 0),
        register(MOVE_REGISTER, CONTEXT, ACCESS, 0),
        immediate(AND, CONTEXT, exception.access.into(), 0),
        if allowed_by_default {
            // Any part of the access is denied: denied.
            immediate(JUMP_IF_EQUAL, CONTEXT, 0, 0)
        } else {
            // All parts of the access are allowed: allowed.
            register(JUMP_UNLESS_EQUAL_REGISTER, CONTEXT, ACCESS, 0)
        },
    ];
    for (number, wanted) in [(MAJOR, exception.major), (MINOR, exception.minor)] {
        // Numbers have 12 and 20 bits in the kernel; one that does not fit matches nothing.
        checks.extend(wanted.map(|wanted| immediate(JUMP_UNLESS_EQUAL, number, wanted.cast_signed(), 0)));
    }
    checks.extend(answer(!allowed_by_default));
    let end = checks.len();
    for (at, instruction) in checks.iter_mut().enumerate() {
        let jumps = [JUMP_UNLESS_EQUAL, JUMP_UNLESS_EQUAL_REGISTER, JUMP_IF_EQUAL];
        if jumps.contains(&instruction.code) {
            // At most nine instructions; relative to the one after the jump.
            instruction.offset = i16::try_from(end - at - 1).unwrap_or(i16::MAX);
        }
    }
    checks
}

fn answer(allowed: bool) -> [Instruction; 2] {
    [immediate(MOVE, RESULT, allowed.into(), 0), immediate(EXIT, 0, 0, 0)]
}

fn load(to: u8, offset: i16) -> Instruction {
    register(LOAD_WORD, to, CONTEXT, offset)
}

fn register(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate: 0,
    }
}

fn immediate(code: u8, to: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: to,
        offset,
        immediate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_rules::tests::rules;
    use crate::device_rules::{MKNOD, READ, WRITE};

    /// What the kernel would do with the instructions used here.
    fn run(program: &[Instruction], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        let context = [kind | u32::from(access) << 16, major, minor];
        let mut registers = [0u64; 6];
        let mut at = 0;
        loop {
            let Instruction {
                code,
                registers: both,
                offset,
                immediate,
            } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let jump = match code {
                LOAD_WORD => {
                    registers[to] = context[usize::try_from(offset).unwrap() / 4].into();
                    false
                }
                MOVE => {
                    registers[to] = u64::try_from(immediate).unwrap();
                    false
                }
                MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                AND => {
                    registers[to] &= u64::try_from(immediate).unwrap();
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= immediate;
                    false
                }
                JUMP_UNLESS_EQUAL => registers[to] != u64::try_from(immediate).unwrap(),
                JUMP_UNLESS_EQUAL_REGISTER => registers[to] != registers[from],
                JUMP_IF_EQUAL => registers[to] == u64::try_from(immediate).unwrap(),
                EXIT => return registers[0] == 1,
                other => unreachable!("{other:#x}"),
            };
            at += 1 + if jump { usize::try_from(offset).unwrap() } else { 0 };
        }
    }

    const B: u32 = 1;
    const C: u32 = 2;

    #[test]
    fn a_container_has_the_harmless_devices_and_those_of_its_rules() {
        let program = assemble(&rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
        ));
        assert!(run(&program, C, READ | WRITE, 1, 3));
        assert!(run(&program, C, READ, 136, 7));
        assert!(run(&program, C, READ | WRITE, 10, 229));
        assert!(!run(&program, C, READ, 10, 228));
        assert!(!run(&program, B, READ, 8, 0));
        assert!(run(&program, B, MKNOD, 8, 0));
        assert!(!run(&program, B, MKNOD | READ, 8, 0));
    }

    #[test]
    fn rules_for_one_device_add_up_and_later_ones_take_away() {
        let program = assemble(&rules(
            r#"[{"allow":false},{"allow":true,"type":"b","major":8,"minor":0,"access":"r"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"w"},
            {"allow":true,"type":"b","major":9,"minor":0,"access":"rw"},
            {"allow":false,"type":"b","major":9,"minor":0,"access":"w"}]"#,
        ));
        assert!(run(&program, B, READ | WRITE, 8, 0));
        assert!(run(&program, B, READ, 9, 0));
        assert!(!run(&program, B, READ | WRITE, 9, 0));
    }

    #[test]
    fn a_privileged_container_has_all_but_what_is_denied_after() {
        let program = assemble(&rules(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]"#,
        ));
        assert!(run(&program, B, READ | WRITE, 7, 1));
        assert!(run(&program, B, READ, 8, 1));
        assert!(!run(&program, B, READ | WRITE, 8, 1));
    }
}
