//! The options of a mount, as the specification and mount(8) spell them: each is honoured, given to the file system, or
//! refused; none is dropped. Source: OCI runtime spec, config.md, "Linux mount options"; mount_setattr(2).

use std::ffi::CString;

use crate::sys::mount::FileSystemOption;

/// What the options of one mount ask for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// A bind mount; `true` with the mounts below.
    pub bind: Option<bool>,
    /// A change of a mount that is there.
    pub remount: bool,
    /// Attributes of the mount.
    pub attributes: Attributes,
    /// Attributes of the mount and of those below it.
    pub recursive: Attributes,
    /// Changes of propagation (`MS_*`), in their order; `true` with the mounts below.
    pub propagation: Vec<(u64, bool)>,
    /// Options that only a new file system has, kernel's or its own.
    pub file_system: Vec<FileSystemOption>,
    /// Fill a new tmpfs with what it covers.
    pub copy_up: bool,
    /// Map ids; `true` with the mounts below.
    pub map_ids: Option<bool>,
}

/// Attributes to set and to clear (`MOUNT_ATTR_*`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
}

impl Attributes {
    /// Whether there is nothing to change.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The last option that names an attribute decides.
    fn apply(&mut self, change: Attributes) {
        self.set = self.set & !change.clear | change.set;
        self.clear |= change.clear;
        // What is one value of several (access times) is cleared as a whole; a single bit that is set is not cleared.
        self.clear &= !(change.set & !libc::MOUNT_ATTR__ATIME);
    }
}

const fn set(bits: u64) -> Attributes {
    Attributes { set: bits, clear: 0 }
}

const fn clear(bits: u64) -> Attributes {
    Attributes { set: 0, clear: bits }
}

const fn access_time(value: u64) -> Attributes {
    Attributes {
        set: value,
        clear: libc::MOUNT_ATTR__ATIME,
    }
}

/// Options that are attributes of a mount; with an `r` before they are those of the mounts below, too.
const ATTRIBUTES: [(&str, Attributes); 20] = [
    ("ro", set(libc::MOUNT_ATTR_RDONLY)),
    ("rw", clear(libc::MOUNT_ATTR_RDONLY)),
    ("nosuid", set(libc::MOUNT_ATTR_NOSUID)),
    ("suid", clear(libc::MOUNT_ATTR_NOSUID)),
    ("nodev", set(libc::MOUNT_ATTR_NODEV)),
    ("dev", clear(libc::MOUNT_ATTR_NODEV)),
    ("noexec", set(libc::MOUNT_ATTR_NOEXEC)),
    ("exec", clear(libc::MOUNT_ATTR_NOEXEC)),
    ("nodiratime", set(libc::MOUNT_ATTR_NODIRATIME)),
    ("diratime", clear(libc::MOUNT_ATTR_NODIRATIME)),
    ("nosymfollow", set(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("symfollow", clear(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("noatime", access_time(libc::MOUNT_ATTR_NOATIME)),
    ("atime", access_time(libc::MOUNT_ATTR_RELATIME)),
    ("relatime", access_time(libc::MOUNT_ATTR_RELATIME)),
    // What is left without it is the kernel's default, which it is.
    ("norelatime", access_time(libc::MOUNT_ATTR_RELATIME)),
    ("strictatime", access_time(libc::MOUNT_ATTR_STRICTATIME)),
    ("nostrictatime", access_time(libc::MOUNT_ATTR_RELATIME)),
    ("defaults", set(0)),
    ("loud", set(0)),
];

const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options of a superblock: a bind mount shows one that is there, and cannot have them.
const SUPERBLOCK: [&str; 10] = [
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "silent",
];

/// Options that say something else.
const OTHERS: [&str; 6] = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];

/// All options that are known, in alphabetical order. A file system has more of its own.
pub fn known() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, _)| (*name).to_owned());
    let recursive = ATTRIBUTES.iter().filter(|(_, change)| *change != set(0));
    let recursive = recursive.map(|(name, _)| format!("r{name}"));
    let propagation = PROPAGATION
        .iter()
        .flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let others = SUPERBLOCK.iter().chain(&OTHERS).map(|name| (*name).to_owned());
    let mut all: Vec<String> = attributes.chain(recursive).chain(propagation).chain(others).collect();
    all.sort();
    all
}

impl Options {
    /// Reads the options of a mount of this type; an error says which one cannot be.
    pub fn parse<'a>(kind: Option<&str>, options: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut parsed = Self::default();
        if kind == Some("bind") {
            parsed.bind = Some(true);
        }
        let (mut own, mut superblock) = (Vec::new(), Vec::new());
        let mut said = None;
        for option in options {
            if let Some((_, change)) = ATTRIBUTES.iter().find(|(name, _)| *name == option) {
                parsed.attributes.apply(*change);
            } else if let Some(change) = recursive(option) {
                parsed.recursive.apply(change);
            } else if let Some(change) = propagation(option) {
                parsed.propagation.push(change);
            } else if SUPERBLOCK.contains(&option) {
                superblock.push(option);
            } else {
                match option {
                    "bind" => said = Some(said.unwrap_or(false)),
                    "rbind" => said = Some(true),
                    "remount" => parsed.remount = true,
                    "tmpcopyup" => parsed.copy_up = true,
                    "idmap" => parsed.map_ids = Some(false),
                    "ridmap" => parsed.map_ids = Some(true),
                    "" => {}
                    other => own.push(other),
                }
            }
        }
        parsed.bind = said.or(parsed.bind);
        parsed.check(kind, &own, &superblock)?;
        // `silent` is about the kernel's log, and the others without "no" are the default.
        superblock.retain(|option| !matches!(*option, "silent" | "async" | "nomand" | "noiversion"));
        for option in superblock.into_iter().chain(own) {
            parsed.file_system.push(file_system_option(option)?);
        }
        Ok(parsed)
    }

    fn check(&self, kind: Option<&str>, own: &[&str], superblock: &[&str]) -> Result<(), String> {
        if self.bind.is_some() || self.remount {
            // containerd and Docker give bind mounts options of tmpfs or of nothing at all now and then; runc drops them.
            if let Some(option) = superblock.iter().find(|option| **option != "silent").or(own.first()) {
                return Err(format!(
                    "option \"{}\" is one of a file system, and a bind mount has none of its own: remove it",
                    option.escape_debug()
                ));
            }
        }
        if self.copy_up && (self.bind.is_some() || kind != Some("tmpfs")) {
            return Err("option \"tmpcopyup\" is for a tmpfs".into());
        }
        if self.map_ids.is_some() && self.bind.is_none() {
            return Err("options \"idmap\" and \"ridmap\" are for bind mounts".into());
        }
        Ok(())
    }
}

fn recursive(option: &str) -> Option<Attributes> {
    let plain = option.strip_prefix('r')?;
    let found = ATTRIBUTES.iter().find(|(name, _)| *name == plain)?;
    (found.1 != set(0)).then_some(found.1)
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    let find = |plain: &str| PROPAGATION.iter().find(|(name, _)| *name == plain);
    let (found, below) = match find(option) {
        Some(found) => (found, false),
        None => (find(option.strip_prefix('r')?)?, true),
    };
    Some((found.1, below))
}

fn file_system_option(option: &str) -> Result<FileSystemOption, String> {
    let c = |text: &str| CString::new(text).map_err(|_| "an option holds a zero byte".to_owned());
    Ok(match option.split_once('=') {
        Some((key, value)) => (c(key)?, Some(c(value)?)),
        None => (c(option)?, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &[&str]) -> Result<Options, String> {
        Options::parse(Some(kind), options.iter().copied())
    }

    #[test]
    fn the_last_of_contrary_options_decides() {
        let read_write = parse("bind", &["ro", "rw"]).unwrap().attributes;
        assert_eq!(read_write, clear(libc::MOUNT_ATTR_RDONLY));
        let read_only = parse("bind", &["rw", "ro"]).unwrap().attributes;
        assert_eq!(read_only, set(libc::MOUNT_ATTR_RDONLY));
        let times = parse("bind", &["noatime", "strictatime"]).unwrap().attributes;
        assert_eq!(times, access_time(libc::MOUNT_ATTR_STRICTATIME));
    }

    #[test]
    fn an_r_in_front_means_the_mounts_below_too() {
        let options = parse("bind", &["rro", "rnosuid", "rslave", "relatime"]).unwrap();
        assert_eq!(
            options.recursive,
            set(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID)
        );
        assert_eq!(options.propagation, [(libc::MS_SLAVE, true)]);
        assert_eq!(options.attributes, access_time(libc::MOUNT_ATTR_RELATIME));
    }

    #[test]
    fn a_bind_mount_is_one_by_type_or_by_option() {
        assert_eq!(parse("bind", &[]).unwrap().bind, Some(true));
        assert_eq!(parse("none", &["bind"]).unwrap().bind, Some(false));
        assert_eq!(parse("bind", &["bind"]).unwrap().bind, Some(false));
        assert_eq!(parse("bind", &["bind", "rbind"]).unwrap().bind, Some(true));
        assert_eq!(parse("tmpfs", &[]).unwrap().bind, None);
    }

    #[test]
    fn every_known_option_is_read_of_a_mount_that_can_have_it() {
        for option in known() {
            let read = [parse("tmpfs", &[&option]), parse("bind", &[&option])];
            assert!(read.iter().any(Result::is_ok), "{option}");
            assert!(
                read.iter().flatten().all(|options| options.file_system.len() < 2),
                "{option}"
            );
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (kind, option) in [
            ("bind", "sync"),
            ("bind", "size=1"),
            ("proc", "tmpcopyup"),
            ("tmpfs", "idmap"),
        ] {
            let why = parse(kind, &[option]).unwrap_err();
            assert!(why.contains(option.split('=').next().unwrap()), "{why}");
        }
        assert_eq!(parse("tmpfs", &["sync", "size=1"]).unwrap().file_system.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_attribute_is_set_and_cleared_at_once(
            options in proptest::collection::vec(proptest::sample::select(
                ATTRIBUTES.iter().map(|(name, _)| *name).collect::<Vec<_>>()), 0..12),
        ) {
            let Attributes { set, clear } = parse("bind", &options).unwrap().attributes;
            assert_eq!(set & clear & !libc::MOUNT_ATTR__ATIME, 0, "{options:?}");
        }

        #[test]
        fn any_text_is_read_or_refused(options in proptest::collection::vec("[a-z=\0,]{0,8}", 0..6)) {
            let _ = parse("tmpfs", &options.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
