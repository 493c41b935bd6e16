//! Files whose form both cgroup versions share: huge pages, RDMA devices.

use std::path::{Path, PathBuf};

use super::number;

/// Use of one size of huge pages.
#[derive(Debug, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel names it: `2MB`.
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// On v1 the most bytes ever in use; on v2 the limit.
    pub max: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Names of the files after `hugetlb.<size>.`.
pub struct HugePageFiles {
    /// Bytes in use.
    pub usage: &'static str,
    /// See [`HugePages::max`].
    pub max: &'static str,
    /// A number, or a flat-keyed file with `max`.
    pub failures: &'static str,
}

/// Every size that the controller in `dir` knows, in the order of their names.
pub fn huge_pages(dir: &Path, files: &HugePageFiles) -> Vec<HugePages> {
    let suffix = format!(".{}", files.usage);
    let mut sizes: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(&suffix)?;
            // Reservations have files of their own: `hugetlb.2MB.rsvd.current`.
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    let all = sizes.into_iter().map(|size| {
        let file = |name: &str| dir.join(format!("hugetlb.{size}.{name}"));
        let failures = file(files.failures);
        HugePages {
            usage: number(&file(files.usage)).unwrap_or(0),
            max: number(&file(files.max)).unwrap_or(0),
            failures: number(&failures).unwrap_or_else(|| super::table(&failures).get("max").copied().unwrap_or(0)),
            size,
        }
    });
    all.collect()
}

/// One device's line of `rdma.current` or `rdma.max`: its name, handles and objects; `max` is the largest number.
pub fn rdma(file: &PathBuf) -> Vec<(String, u32, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let device = fields.next()?.to_owned();
        let value = |name: &str| {
            let field = line.split_whitespace().find_map(|field| field.strip_prefix(name));
            field.map_or(0, |number| number.parse().unwrap_or(u32::MAX))
        };
        Some((device, value("hca_handle="), value("hca_object=")))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_of_huge_pages_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("hugetlb.2MB.current", "4194304\n");
        write("hugetlb.2MB.max", "max\n");
        write("hugetlb.2MB.events", "max 3\n");
        write("hugetlb.2MB.rsvd.current", "1\n");
        write("hugetlb.1GB.current", "0\n");
        let files = HugePageFiles {
            usage: "current",
            max: "max",
            failures: "events",
        };
        let all = huge_pages(dir.path(), &files);
        assert_eq!(all.iter().map(|one| &*one.size).collect::<Vec<_>>(), ["1GB", "2MB"]);
        assert_eq!((all[1].usage, all[1].max, all[1].failures), (4_194_304, u64::MAX, 3));
    }

    #[test]
    fn rdma_devices_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rdma.max");
        std::fs::write(&file, "mlx4_0 hca_handle=2 hca_object=max\n").unwrap();
        assert_eq!(rdma(&file), [("mlx4_0".to_owned(), 2, u32::MAX)]);
    }
}
