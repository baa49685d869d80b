//! What cgroups allow this process, its own and those around it: memory and threads. See cgroups(7), versions 2 and 1.

use std::path::{Component, Path, PathBuf};

/// The limits of this process's cgroups; `None` where there is none, or where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// Bytes of memory, the kernel's for sockets among them.
    pub(crate) memory: Option<Allowance>,
    /// Threads, and processes, which count alike.
    pub(crate) threads: Option<Allowance>,
}

/// Of the limits of one kind the one that leaves least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The file that has the limit.
    pub(crate) file: String,
    /// What is allowed.
    pub(crate) limit: u64,
    /// What of it is not in use.
    pub(crate) left: u64,
}

impl Cgroup {
    /// The limits, as `read` finds them in files; it returns `None` for those that do not exist.
    pub(crate) fn read(read: impl Fn(&Path) -> Option<String>) -> Cgroup {
        let text = |path: &str| read(Path::new(path)).unwrap_or_default();
        let (own, mounts) = (text("/proc/self/cgroup"), text("/proc/self/mountinfo"));
        let least = |files: &[Files]| {
            let found = files.iter().flat_map(|files| {
                let folders = folders(&own, &mounts, files.controller);
                folders.into_iter().filter_map(|folder| files.allowance(&folder, &read)).collect::<Vec<_>>()
            });
            found.min_by_key(|allowance| allowance.left)
        };
        Cgroup { memory: least(&MEMORY), threads: least(&THREADS) }
    }
}

/// The files of a limit, in a cgroup's folder.
struct Files {
    /// The controller of version 1; `None` for version 2, where all controllers are in one folder.
    controller: Option<&'static str>,
    limit: &'static str,
    usage: &'static str,
    /// A file of statistics, and the lines of it that say what of the usage the kernel takes away when it needs it: pages of
    /// files, which MemAvailable of the whole machine does not count as used either.
    spare: Option<(&'static str, [&'static str; 2])>,
}

const MEMORY: [Files; 2] = [
    Files {
        controller: None,
        limit: "memory.max",
        usage: "memory.current",
        spare: Some(("memory.stat", ["inactive_file", "active_file"])),
    },
    Files {
        controller: Some("memory"),
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        spare: Some(("memory.stat", ["total_inactive_file", "total_active_file"])),
    },
];

const THREADS: [Files; 2] = [
    Files { controller: None, limit: "pids.max", usage: "pids.current", spare: None },
    Files { controller: Some("pids"), limit: "pids.max", usage: "pids.current", spare: None },
];

impl Files {
    /// The limit in `folder`, if there is one: it may be `max`, or, in version 1, a number that no machine has.
    fn allowance(&self, folder: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<Allowance> {
        let number = |file: &str| read(&folder.join(file))?.trim().parse::<u64>().ok();
        let (limit, usage) = (number(self.limit).filter(|limit| *limit < UNLIMITED)?, number(self.usage)?);
        let spare = self.spare.map_or(0, |(file, names)| {
            let text = read(&folder.join(file)).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.filter(|(name, _)| names.contains(name)).filter_map(|(_, number)| number.parse::<u64>().ok()).sum()
        });
        let left = limit.saturating_sub(usage.saturating_sub(spare));
        Some(Allowance { file: folder.join(self.limit).display().to_string(), limit, left })
    }
}

/// The folders of this process's cgroup under `controller` and of all around it, as far as they can be seen from here: of
/// what /proc/self/cgroup and /proc/self/mountinfo say.
fn folders(own: &str, mounts: &str, controller: Option<&str>) -> Vec<PathBuf> {
    let has = |list: &str| controller.is_some_and(|name| list.split(',').any(|word| word == name));
    // hierarchy:controllers:path, where version 2 has the number 0 and no controllers.
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = if controller.is_none() { hierarchy == "0" && controllers.is_empty() } else { has(controllers) };
        is_it.then_some(Path::new(path))
    });
    // id parent device root mount-point options … - type source options, see proc_pid_mountinfo(5).
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (place, kind) = (place.split(' ').collect::<Vec<_>>(), kind.split(' ').collect::<Vec<_>>());
        let (name, options) = (*kind.first()?, *kind.get(2)?);
        let is_it = if controller.is_none() { name == "cgroup2" } else { name == "cgroup" && has(options) };
        is_it.then_some((Path::new(*place.get(3)?), Path::new(*place.get(4)?)))
    });
    let (Some(path), Some((root, point))) = (path, mount) else { return Vec::new() };
    // In a container the mount's root may be its cgroup, whose path is that of the host: what is mounted is then the
    // nearest that can be seen. The same goes for a path that leads out of it.
    let below = path.strip_prefix(root).ok().filter(|below| !below.components().any(|it| it == Component::ParentDir));
    let folder = point.join(below.unwrap_or(Path::new("")));
    folder.ancestors().take_while(|folder| folder.starts_with(point)).map(Path::to_path_buf).collect()
}

/// Version 1 has no word for "no limit", only the largest number of whole pages: this is less, and more than there is.
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where there are these files.
    fn found(files: &[(&str, &str)]) -> Cgroup {
        Cgroup::read(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    fn allowance(file: &str, limit: u64, left: u64) -> Option<Allowance> {
        Some(Allowance { file: file.to_owned(), limit, left })
    }

    const MOUNT_2: &str = "21 20 0:19 / /proc rw - proc proc rw\n\
                           30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_nearest_limit_may_not_be_the_tightest() {
        let of = |outer: &str| {
            found(&[
                ("/proc/self/cgroup", "0::/user.slice/a.scope\n"),
                ("/proc/self/mountinfo", MOUNT_2),
                ("/sys/fs/cgroup/user.slice/a.scope/memory.max", "1000\n"),
                ("/sys/fs/cgroup/user.slice/a.scope/memory.current", "300\n"),
                ("/sys/fs/cgroup/user.slice/memory.max", outer),
                ("/sys/fs/cgroup/user.slice/memory.current", "4500\n"),
                ("/sys/fs/cgroup/user.slice/a.scope/pids.max", "max\n"),
                ("/sys/fs/cgroup/user.slice/a.scope/pids.current", "3\n"),
                ("/sys/fs/cgroup/user.slice/pids.max", "20\n"),
                ("/sys/fs/cgroup/user.slice/pids.current", "8\n"),
            ])
        };
        assert_eq!(of("max\n").memory, allowance("/sys/fs/cgroup/user.slice/a.scope/memory.max", 1000, 700));
        assert_eq!(of("5000\n").memory, allowance("/sys/fs/cgroup/user.slice/memory.max", 5000, 500));
        assert_eq!(of("4000\n").memory, allowance("/sys/fs/cgroup/user.slice/memory.max", 4000, 0));
        assert_eq!(of("max\n").threads, allowance("/sys/fs/cgroup/user.slice/pids.max", 20, 12));
    }

    #[test]
    fn pages_of_files_are_not_in_the_way() {
        let of = |stat: &str| {
            found(&[
                ("/proc/self/cgroup", "0::/\n"),
                ("/proc/self/mountinfo", MOUNT_2),
                ("/sys/fs/cgroup/memory.max", "1000"),
                ("/sys/fs/cgroup/memory.current", "900"),
                ("/sys/fs/cgroup/memory.stat", stat),
            ])
        };
        let left = |stat| of(stat).memory.unwrap().left;
        assert_eq!(left("anon 300\nfile 600\ninactive_file 400\nactive_file 150\n"), 650);
        assert_eq!((left(""), left("inactive_file 5000")), (100, 1000));
    }

    const MOUNT_1: &str = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cpu rw,cpu,cpuacct\n\
                           32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup memory rw,memory\n\
                           33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup pids rw,pids\n\
                           34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn version_1_has_a_folder_for_each_controller_and_no_word_for_no_limit() {
        let of = |outer: &str| {
            found(&[
                ("/proc/self/cgroup", "9:name=systemd:/\n8:pids:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n"),
                ("/proc/self/mountinfo", MOUNT_1),
                ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "5\n"),
                ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", outer),
                ("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "700\n"),
                (
                    "/sys/fs/cgroup/memory/a/memory.stat",
                    "inactive_file 7\ntotal_inactive_file 50\ntotal_active_file 1\n",
                ),
                ("/sys/fs/cgroup/pids/pids.current", "90\n"),
            ])
        };
        assert_eq!(of("1000\n").memory, allowance("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", 1000, 351));
        assert_eq!(of("9223372036854771712\n"), Cgroup::default());
    }

    #[test]
    fn a_container_sees_its_own_cgroup_at_the_mount_whatever_its_path_outside_is() {
        let point = "/sys/fs/cgroup/memory";
        for (path, root, folder) in [
            ("/docker/7", "/docker/7", ""),
            ("/docker/7/a", "/docker/7", "/a"),
            ("/", "/docker/7", ""),
            ("/../b", "/", ""),
        ] {
            let limit = format!("{point}{folder}/memory.limit_in_bytes");
            let found = found(&[
                ("/proc/self/cgroup", &format!("4:memory:{path}\n")),
                ("/proc/self/mountinfo", &format!("32 30 0:28 {root} {point} ro - cgroup memory rw,memory\n")),
                (&limit, "1000\n"),
                (&format!("{point}{folder}/memory.usage_in_bytes"), "200\n"),
            ]);
            assert_eq!(found.memory, allowance(&limit, 1000, 800), "{path} below {root}");
        }
    }

    #[test]
    fn where_nothing_can_be_read_there_is_no_limit() {
        assert_eq!(found(&[]), Cgroup::default());
        assert_eq!(found(&[("/proc/self/cgroup", "0::/a\n")]), Cgroup::default());
        assert_eq!(
            found(&[("/proc/self/cgroup", "?\n:\n0:\n"), ("/proc/self/mountinfo", "- - -\n1 2 - cgroup2\n")]),
            Cgroup::default()
        );
        let nonsense = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", MOUNT_2),
            ("/sys/fs/cgroup/memory.max", "-1"),
            ("/sys/fs/cgroup/memory.current", "200"),
            ("/sys/fs/cgroup/pids.max", "20"),
        ];
        assert_eq!(found(&nonsense), Cgroup::default());
    }
}
