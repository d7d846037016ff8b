//! Addresses and paths → open sockets. Nothing is read here.

use crate::config::Listen;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use tokio::io::AsyncRead;

/// An open socket, not yet part of a runtime: so that an address that is taken is found at start.
pub(crate) enum Socket {
    Udp(std::net::UdpSocket),
    Tcp(std::net::TcpListener),
    UnixDgram(unix::UnixDatagram, File),
    UnixStream(unix::UnixListener, File),
}

/// The file of a unix socket; removed when the socket is closed.
pub(crate) struct File {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

/// A socket that is listened to.
pub(super) enum Listener {
    Datagrams(Datagrams, Option<File>),
    Connections(Connections, Option<File>),
}

pub(super) enum Datagrams {
    Udp(tokio::net::UdpSocket),
    Unix(tokio::net::UnixDatagram),
}

pub(super) enum Connections {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp {address}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::UnixDgram { path, .. } | Self::UnixStream { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl Socket {
    /// Errors: the address is taken, not this host's, or not allowed.
    pub(crate) fn open(listen: &Listen) -> io::Result<Self> {
        let socket = match listen {
            Listen::Udp(address) => Self::Udp(std::net::UdpSocket::bind(address)?),
            Listen::Tcp(address) => Self::Tcp(std::net::TcpListener::bind(address)?),
            Listen::UnixDgram { path, mode } => {
                make_room(path)?;
                Self::UnixDgram(unix::UnixDatagram::bind(path)?, File::new(path, *mode)?)
            }
            Listen::UnixStream { path, mode } => {
                make_room(path)?;
                Self::UnixStream(unix::UnixListener::bind(path)?, File::new(path, *mode)?)
            }
        };
        match &socket {
            Self::Udp(socket) => socket.set_nonblocking(true)?,
            Self::Tcp(socket) => socket.set_nonblocking(true)?,
            Self::UnixDgram(socket, _) => socket.set_nonblocking(true)?,
            Self::UnixStream(socket, _) => socket.set_nonblocking(true)?,
        }
        Ok(socket)
    }

    /// Where it listens, with the port that it got.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Udp(socket) => told(socket.local_addr()),
            Self::Tcp(socket) => told(socket.local_addr()),
            Self::UnixDgram(_, file) | Self::UnixStream(_, file) => file.path.display().to_string(),
        }
    }

    /// Only this host can send.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::UnixDgram(..) | Self::UnixStream(..))
    }

    pub(super) fn is_open_to_others(&self) -> bool {
        let address = match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(socket) => socket.local_addr(),
            Self::UnixDgram(..) | Self::UnixStream(..) => return false,
        };
        address.is_ok_and(|address| !address.ip().is_loopback())
    }

    /// Makes it part of the runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Udp(socket) => Listener::Datagrams(Datagrams::Udp(tokio::net::UdpSocket::from_std(socket)?), None),
            Self::Tcp(socket) => {
                Listener::Connections(Connections::Tcp(tokio::net::TcpListener::from_std(socket)?), None)
            }
            Self::UnixDgram(socket, file) => {
                Listener::Datagrams(Datagrams::Unix(tokio::net::UnixDatagram::from_std(socket)?), Some(file))
            }
            Self::UnixStream(socket, file) => {
                Listener::Connections(Connections::Unix(tokio::net::UnixListener::from_std(socket)?), Some(file))
            }
        })
    }
}

fn told(address: io::Result<SocketAddr>) -> String {
    address.map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// Removes a socket that nobody listens to any more. Errors: something else has the name, or somebody listens.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file of this name that is no socket"));
    }
    let stream = unix::UnixStream::connect(path);
    let datagram = unix::UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    if stream.is_ok() || datagram.is_ok() {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there"));
    }
    std::fs::remove_file(path)
}

impl File {
    fn new(path: &Path, mode: u32) -> io::Result<Self> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { path: path.to_owned(), inode: Self::inode(path) })
    }

    fn inode(path: &Path) -> Option<(u64, u64)> {
        std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.inode.is_some() && Self::inode(&self.path) == self.inode {
            std::fs::remove_file(&self.path).ok(); // The next start removes it.
        }
    }
}

impl Datagrams {
    /// The next datagram: its size, and its sender's address if it has one.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<String>)> {
        match self {
            Self::Udp(socket) => socket.recv_from(buffer).await.map(|(bytes, from)| (bytes, Some(from.to_string()))),
            Self::Unix(socket) => socket.recv_from(buffer).await.map(|(bytes, _)| (bytes, None)),
        }
    }

    /// As `receive`, if one is there now.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<String>)> {
        match self {
            Self::Udp(socket) => socket.try_recv_from(buffer).map(|(bytes, from)| (bytes, Some(from.to_string()))),
            Self::Unix(socket) => socket.try_recv_from(buffer).map(|(bytes, _)| (bytes, None)),
        }
    }
}

impl Connections {
    /// The next connection, and its sender's address if it has one.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn AsyncRead + Send + Unpin>, Option<String>)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                (Box::new(stream), Some(from.to_string()))
            }
            Self::Unix(listener) => (Box::new(listener.accept().await?.0), None),
        })
    }
}
