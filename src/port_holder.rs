//! Port holder: the process that listens on a port, as Linux shows it, for the error of a port that is in use. It must
//! never open or close anything of another process.

use std::fs;
use std::path::{Path, PathBuf};

/// The state of a listening socket in the kernel's tables (`include/net/tcp_states.h`).
const LISTENING: &str = "0A";

/// The process that listens on a TCP port: its name and id. `None`: no process that this one may see, or another
/// system.
pub(crate) fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inode = tables.iter().flatten().find_map(|table| inode_in(table, port))?;
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let entries = fs::read_dir("/proc").ok()?.flatten();
    // Other entries are not processes, or are this one again.
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let folder = |id: u32| PathBuf::from(format!("/proc/{id}"));
    let id = ids.into_iter().find(|id| has_open(&folder(*id), &socket))?;
    let name = fs::read_to_string(folder(id).join("comm")).ok()?;
    Some(format!("`{}` (process {id})", name.trim().escape_default()))
}

/// The inode of the socket that listens on a port, in a table of the kernel.
fn inode_in(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1)?;
        let listens = columns.nth(1)? == LISTENING && local.ends_with(&wanted);
        let inode = columns.nth(5)?.parse().ok()?;
        listens.then_some(inode)
    })
}

fn has_open(process: &Path, socket: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1\n   \
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n";
        assert_eq!(inode_in(table, 8080), Some(4242));
        assert_eq!(inode_in(table, 8081), None);
        assert_eq!(inode_in("", 8080), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(port).unwrap();
        assert!(found.ends_with(&format!("(process {})", std::process::id())), "{found}");
        drop(listener);
    }
}
