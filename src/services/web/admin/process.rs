//! What the operating system says about this process: `/proc/self` (`man 5 proc`), which is memory
//! only, so that no disk is waited for.

use crate::disk::Disk;
use crate::metrics::Process;

/// The answer of now.
pub(super) fn read(disk: &mut dyn Disk) -> Process {
    Process {
        resident_bytes: text(disk, "status").as_deref().and_then(resident_bytes),
        cpu_s: text(disk, "stat").as_deref().and_then(cpu_s),
    }
}

fn text(disk: &mut dyn Disk, name: &str) -> Option<String> {
    let folder = disk.open_folder("/proc/self".as_ref()).ok()?;
    let file = disk.open(&folder, name.as_ref()).ok()?;
    let mut bytes = [0; 4096];
    let count = disk.read_at(&file, 0, &mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The second field is the program's name in brackets and may hold blanks; user and system time are
/// the 14th and 15th, in ticks of which the kernel's interface has a hundred to the second.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11);
    let user: u64 = ticks.next()?.parse().ok()?;
    let system: u64 = ticks.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_program_is_called() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(resident_bytes(status), Some(12 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4 0 0 0 0 150 25 0 0 20 0\n";
        assert_eq!(cpu_s(stat), Some(1.75));
        assert_eq!(cpu_s("7 (a) S 1"), None);
    }
}
