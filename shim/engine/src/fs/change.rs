//! Making, moving and removing objects. Each is the kernel's own call, on a directory that a guest may have and a name.

use super::resolve::{LastLink, Place};
use super::{Dir, Result, View, admit};
use rustix::fs::{AtFlags, Mode, Timestamps};

impl View {
    fn place_to_change(&self, dir: &Dir, path: &[u8]) -> Result<Place> {
        let place = self.locate(dir, path, LastLink::Change)?.place()?;
        admit::file_system(&place.parent)?;
        Ok(place)
    }

    pub(crate) fn make_dir(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let place = self.place_to_change(dir, path)?;
        let mode = Mode::from_raw_mode(0o777);
        rustix::fs::mkdirat(&place.parent, place.name_as_written()?, mode)
    }

    pub(crate) fn remove_dir(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let place = self.place_to_change(dir, path)?;
        rustix::fs::unlinkat(&place.parent, place.name_as_written()?, AtFlags::REMOVEDIR)
    }

    pub(crate) fn unlink(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let place = self.place_to_change(dir, path)?;
        rustix::fs::unlinkat(&place.parent, place.name_as_written()?, AtFlags::empty())
    }

    pub(crate) fn rename(&self, from: (&Dir, &[u8]), to: (&Dir, &[u8])) -> Result<()> {
        let (old, new) = (self.place_to_change(from.0, from.1)?, self.place_to_change(to.0, to.1)?);
        rustix::fs::renameat(&old.parent, old.name_as_written()?, &new.parent, new.name_as_written()?)
    }

    /// Another name for the object; of a link itself, unless `follow`.
    pub(crate) fn link(&self, from: (&Dir, &[u8]), follow: bool, to: (&Dir, &[u8])) -> Result<()> {
        let old = self.locate(from.0, from.1, LastLink::followed_if(follow))?.place()?;
        old.look()?;
        let new = self.place_to_change(to.0, to.1)?;
        rustix::fs::linkat(
            &old.parent,
            old.name()?,
            &new.parent,
            new.name_as_written()?,
            AtFlags::empty(),
        )
    }

    /// A link that says `target`, whatever that is: where it leads is found out when it is followed.
    pub(crate) fn make_link(&self, target: &[u8], dir: &Dir, path: &[u8]) -> Result<()> {
        let place = self.place_to_change(dir, path)?;
        rustix::fs::symlinkat(target, &place.parent, place.name_as_written()?)
    }

    pub(crate) fn set_times(&self, dir: &Dir, path: &[u8], follow: bool, times: &Timestamps) -> Result<()> {
        let place = self.locate(dir, path, LastLink::followed_if(follow))?.place()?;
        place.look()?;
        // A link that took the object's place meanwhile is not followed.
        rustix::fs::utimensat(&place.parent, place.name()?, times, AtFlags::SYMLINK_NOFOLLOW)
    }
}
