//! The memory of this machine and of this process.

use std::path::Path;

use super::PlanError;

/// Memory of a program that has loaded nothing, where the system does not say: its code and its threads.
const SMALLEST_PROGRAM: usize = 12 << 20;

/// Bytes that this process holds now, without what it has freed and will use again first. Before the base is loaded,
/// this is the program's code with its tokenizer and its data.
pub fn program_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name| kib_of(&status, name).unwrap_or(0);
    // More of the code is read later than so far: as much as a program that has loaded nothing has at its end.
    foehn_kernels::heap_in_use().map_or_else(|| of("VmRSS:").max(SMALLEST_PROGRAM), |heap| heap + SMALLEST_PROGRAM)
}

/// Bytes that new allocations of this process can use without swapping: what the system has available, or what is left
/// of the limit of the process's control group, whichever is less. `None` if the system does not say.
///
/// Sources: `proc_meminfo(5)`, `MemAvailable`; the kernel's `cgroup-v2.rst`, `memory.max`, and `cgroup-v1/memory.rst`.
pub fn free_memory() -> Option<usize> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let system = kib_of(&read("/proc/meminfo".as_ref())?, "MemAvailable:")?;
    let own = read("/proc/self/cgroup".as_ref()).unwrap_or_default();
    let groups = groups(&own);
    Some(groups.iter().filter_map(|group| left_in(group, &read)).fold(system, usize::min))
}

/// The number of threads that compute.
pub(super) fn threads() -> usize {
    #[cfg(feature = "flex")]
    return foehn_kernels::threads();
    #[cfg(not(feature = "flex"))]
    1
}

/// Reads a size such as `8G`, `1.5 GiB`, `800M` or `123456` (bytes). The units are powers of 1024.
///
/// # Errors
/// [`PlanError::Size`].
pub fn parse_bytes(text: &str) -> Result<usize, PlanError> {
    let failed = || PlanError::Size { found: text.to_owned() };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| failed())?;
    let exponent = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(failed()),
    };
    let bytes = number * 1024f64.powi(exponent);
    // Above 2⁵³ a float is not exact, and no machine has as much.
    if bytes >= 1.0 && bytes < (1u64 << 53) as f64 { Ok(bytes as usize) } else { Err(failed()) }
}

/// The value of a line `name   123 kB`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

/// The folders of a process's control groups and of all groups around them, from its `/proc/self/cgroup`.
fn groups(own: &str) -> Vec<std::path::PathBuf> {
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        // In a container the path may be one of the host; the root is then the container's own group.
        let inner = Path::new(path.trim_start_matches('/'));
        groups.extend(inner.ancestors().map(|inner| Path::new(root).join(inner)));
    }
    groups
}

/// What is left of a group's limit; `None` without one. Pages of files that the system would drop count as free.
fn left_in(group: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<usize> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<usize>().ok();
    let (limit, used) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
    };
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let droppable = ["inactive_file ", "total_inactive_file "];
    let line = droppable.iter().rev().find_map(|name| stat.lines().find_map(|line| line.strip_prefix(name)));
    let files = line.and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_refused() {
        let good = [("8G", 8 << 30), ("1.5 GiB", 3 << 29), ("800m", 800 << 20), ("4096", 4096), (" 2kb ", 2048)];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "8X", "G", "0", "0G", "-1G", "1e3G", "8 8G", "99999999T", "1.2.3G", "nan", "inf"] {
            let said = parse_bytes(text).unwrap_err().to_string();
            assert!(said.contains(&format!("{text:?}")) && said.contains("such as 8G"), "{said}");
        }
    }

    #[test]
    fn the_limit_of_the_innermost_group_counts() {
        let own = "0::/a/b\n";
        let paths: Vec<String> = groups(own).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
        let old = groups("5:cpu,cpuacct:/x\n4:memory:/x\n");
        assert_eq!(old[0], Path::new("/sys/fs/cgroup/memory/x"));
        assert!(old.iter().all(|path| path.starts_with("/sys/fs/cgroup/memory")));

        let files = |pairs: &'static [(&str, &str)]| {
            move |path: &Path| {
                let name = path.file_name()?.to_str()?;
                Some(pairs.iter().find(|pair| pair.0 == name)?.1.to_owned())
            }
        };
        let group = Path::new("/sys/fs/cgroup/a");
        let two = files(&[
            ("memory.max", "1000\n"),
            ("memory.current", "700\n"),
            ("memory.stat", "anon 5\ninactive_file 100\n"),
        ]);
        assert_eq!(left_in(group, &two), Some(400));
        assert_eq!(left_in(group, &files(&[("memory.max", "max\n"), ("memory.current", "7\n")])), None);
        let one = files(&[("memory.limit_in_bytes", "1000"), ("memory.usage_in_bytes", "1200")]);
        assert_eq!(left_in(group, &one), Some(0));
    }

    #[test]
    fn a_line_of_the_system_is_in_kib() {
        assert_eq!(kib_of("MemTotal: 9 kB\nMemAvailable:     12 kB\n", "MemAvailable:"), Some(12 << 10));
        assert_eq!(kib_of("MemAvailable: x kB\n", "MemAvailable:"), None);
        assert!(program_bytes() >= SMALLEST_PROGRAM);
    }
}
