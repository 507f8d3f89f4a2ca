//! Default of `server.memory`: a part of the cgroup's limit, or of the machine's memory. It must never fail: without either,
//! a constant holds.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The default where neither a cgroup nor `/proc/meminfo` can be read.
const UNKNOWN: usize = 1 << 30;

/// A part of a whole.
struct Part {
    of: usize,
    whole: usize,
}

/// Of a cgroup's limit, beyond which the kernel ends the process.
const OF_CGROUP: Part = Part { of: 3, whole: 4 };
/// Of a machine's memory, which other processes use as well.
const OF_MACHINE: Part = Part { of: 1, whole: 2 };

/// The default of `server.memory` in bytes, read once.
pub(super) fn default() -> usize {
    static DEFAULT: LazyLock<usize> = LazyLock::new(|| {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        measured(&read).unwrap_or(UNKNOWN)
    });
    *DEFAULT
}

/// `read`: the text of a file, if there is one.
fn measured(read: &dyn Fn(&Path) -> Option<String>) -> Option<usize> {
    let machine = machine(&read(Path::new("/proc/meminfo"))?)?;
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    // Version 1 has a very large number for no limit.
    let cgroup = cgroup(&groups, read).filter(|limit| *limit < machine);
    let part = |memory: usize, Part { of, whole }: Part| memory / whole * of;
    Some(cgroup.map_or_else(|| part(machine, OF_MACHINE), |limit| part(limit, OF_CGROUP)))
}

/// `MemTotal` of `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The lowest limit of the process's cgroup and those above it, by the lines of `/proc/self/cgroup`
/// (cgroups(7)): `0::PATH` is version 2, `N:memory:PATH` version 1.
fn cgroup(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<usize> {
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let own = PathBuf::from(root).join(path.trim_start_matches('/'));
        // In a container its own cgroup is the root, whatever the path is.
        let above = own.ancestors().take_while(|dir| dir.starts_with(root));
        above.filter_map(|dir| read(&dir.join(file))?.trim().parse().ok()).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        8388608 kB\nMemFree:          100 kB\n";
    const GIB: usize = 1 << 30;

    fn with(files: &[(&str, &str)]) -> Option<usize> {
        measured(&|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn finding_5_the_memory_is_three_quarters_of_the_cgroup_or_half_of_the_machine() {
        let machine = ("/proc/meminfo", MEMINFO);
        let two = ("/proc/self/cgroup", "0::/system.slice/streamgate.service\n");
        let one = ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/7f\n0::/\n");
        let own = "/sys/fs/cgroup/system.slice/streamgate.service/memory.max";
        for (files, expected) in [
            (&[machine][..], 4 * GIB),
            (&[machine, two, (own, "max\n")], 4 * GIB),
            (&[machine, two, (own, "1073741824\n")], GIB / 4 * 3),
            // The lowest of those above counts as well.
            (
                &[
                    machine,
                    two,
                    (own, "4294967296\n"),
                    ("/sys/fs/cgroup/system.slice/memory.max", "2147483648\n"),
                ],
                GIB / 2 * 3,
            ),
            // A container sees its own cgroup as the root.
            (&[machine, two, ("/sys/fs/cgroup/memory.max", "1073741824\n")], GIB / 4 * 3),
            (
                &[machine, one, ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")],
                GIB / 8 * 3,
            ),
            (
                &[
                    machine,
                    one,
                    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                4 * GIB,
            ),
        ] {
            assert_eq!(with(files), Some(expected), "{files:?}");
        }
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("/proc/meminfo", "MemTotal: many\n")]), None);
    }
}
