//! Child processes that end with the test, their output kept for when something goes wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; both output streams go to `<folder>/<name>.log`.
    pub fn start(name: &str, folder: &Path, program: &Path, arguments: &[&str]) -> Process {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        Process { name: name.into(), child, log }
    }

    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| line.chars().take(1000).collect::<String>() + "\n").collect()
    }

    /// Waits until `GET /ready` at `port` says 200.
    pub fn ready(&mut self, port: u16) {
        let start = Instant::now();
        while get(port, "/ready").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}):\n{}", self.name, self.log());
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{} is not ready:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill(2) takes two integers; the child is ours and not yet reaped.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }

    /// Its exit code; panics when it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            assert!(start.elapsed() < limit, "{} does not end:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's workers outlive a master that is killed.
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            // SAFETY: kill(2) takes two integers.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
    }
}

/// Head and body of `GET path` from a loopback port.
pub fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Below the range from which the system takes the ports of clients (`ip_local_port_range`): a port that is found free
/// must not become some client's before the program that was told of it has opened it.
const PORTS: Range<u16> = 12_000..32_000;

/// Free loopback ports that no other call in this process gets.
pub fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(PORTS.end - PORTS.start);
    // Test processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    std::array::from_fn(|_| {
        let mut tried = (0..range).map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % range);
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        tried
            .find_map(|offset| u16::try_from(offset).ok().map(|at| PORTS.start + at).filter(free))
            .expect("a free port")
    })
}

/// A loopback port that refuses connections, and that nobody else gets, for as long as this lives.
pub struct Unused {
    pub port: u16,
    _socket: tokio::net::TcpSocket,
}

impl Unused {
    pub fn reserve() -> Unused {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        Unused { port: socket.local_addr().expect("bound").port(), _socket: socket }
    }
}

/// A fresh folder below the system's temporary one; left behind for inspection when a test fails.
pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ripstop-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    folder
}
