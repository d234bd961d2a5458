//! A guest on loopback: its SSH server keeps the contract, but for what it was made to do otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anweddol::guest::ssh::ENDPOINT;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, Session};
use russh::{Channel, ChannelId, Disconnect, Sig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What no terminal, no log and no parser of lines should ever be given.
pub(crate) const RAW: &str = "\x1b]0;owned\x07\x1b[2J\r\nERROR forged=\"line\"\n\u{202e}\u{9b}31m";

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Manner {
    /// Keeps the contract.
    Honest,
    /// The same, and lets nobody send it anything on a channel.
    NoWindow,
    // Before it is an SSH server.
    /// Says nothing.
    Mute,
    /// Says lines and no end of them, and never that it is an SSH server.
    Chatter,
    /// Says a megabyte without an end of line, and no end of them.
    OneLine,
    /// Says bytes that are none of any protocol.
    Noise,
    /// A right server, one byte at a time.
    Dribble,
    // At the login.
    /// Says what is [`RAW`] before the login, in the protocol's own banner.
    Banner,
    /// Lets everybody in.
    Open,
    /// Lets nobody in.
    Shut,
    // At the command.
    /// Says that it is done, and leaves `endpoint` as it was.
    LeavesEndpoint,
    /// Says that it is done, and makes no user.
    MakesNobody,
    /// Ends the command without a status.
    NoStatus,
    /// Says that it is done, and never ends the command.
    Unending,
    /// Says that a signal with a [`RAW`] name ended it.
    Signal,
    /// Fails, with a megabyte of what is [`RAW`].
    Fails,
    /// Prints, and no end of it.
    Prints,
    /// Ends the connection with what is [`RAW`].
    Leaves,
    // Afterwards.
    /// Has another host key once it was told a password.
    OtherKey,
    /// Opens a channel of this kind to its client, and another one, and no end of them.
    Opens(Kind),
}

/// What a server may try to open to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Session,
    Agent,
    X11,
    Forwarded,
    ForwardedSocket,
    Direct,
    DirectSocket,
}

/// What happened to it.
#[derive(Default)]
pub(crate) struct Seen {
    /// Connections that were made to it.
    pub(crate) connections: AtomicUsize,
    /// Those that are open.
    pub(crate) open: AtomicUsize,
    /// Passwords that it was told, on connections that were made before it had one, and later.
    pub(crate) passwords: [AtomicUsize; 2],
    /// Channels that it could open.
    pub(crate) channels: AtomicUsize,
    /// Bytes that it could send where it sends no end of them.
    pub(crate) sent: AtomicUsize,
}

/// One guest.
pub(crate) struct Guest {
    pub(crate) at: SocketAddr,
    pub(crate) manner: Manner,
    pub(crate) seen: Seen,
    /// Whom the set-up script made.
    user: Mutex<Option<(String, String)>>,
    locked: Mutex<bool>,
}

impl Guest {
    pub(crate) fn start(runtime: &Runtime, manner: Manner) -> Arc<Guest> {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let at = listener.local_addr().unwrap();
        let guest =
            Arc::new(Guest { at, manner, seen: Seen::default(), user: Mutex::default(), locked: Mutex::default() });
        let it = guest.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let it = it.clone();
                tokio::spawn(async move {
                    it.seen.connections.fetch_add(1, Ordering::SeqCst);
                    it.seen.open.fetch_add(1, Ordering::SeqCst);
                    it.clone().serve(stream).await;
                    it.seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        guest
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        match self.manner {
            Manner::Mute => drop(stream.read(&mut [0; 4096]).await),
            Manner::Chatter => self.flood(stream, format!("{RAW}\r\n").into_bytes()).await,
            Manner::OneLine => self.flood(stream, vec![b'x'; 1 << 20]).await,
            Manner::Noise => self.flood(stream, (0..=255).collect()).await,
            Manner::Dribble => {
                let (near, far) = tokio::io::duplex(4096);
                let (mut from_client, mut to_client) = stream.split();
                let (mut from_server, mut to_server) = tokio::io::split(near);
                let dribble = async {
                    while let Ok(byte) = from_server.read_u8().await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        if to_client.write_u8(byte).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = copy(&mut from_client, &mut to_server) => {}
                    () = dribble => {}
                    () = self.clone().speak(far) => {}
                }
            }
            _ => self.clone().speak(stream).await,
        }
    }

    /// Sends for as long as somebody takes it.
    async fn flood(&self, mut stream: TcpStream, bytes: Vec<u8>) {
        while stream.write_all(&bytes).await.is_ok() {
            self.seen.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        }
    }

    /// SSH.
    async fn speak<S>(self: Arc<Self>, stream: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // Not the second connection: somebody who waits for a guest connects more than once before he logs in.
        let later = self.seen.passwords[0].load(Ordering::SeqCst) > 0;
        let seed = if self.manner == Manner::OtherKey && later { 8 } else { 7 };
        let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap();
        let config = server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            window_size: if self.manner == Manner::NoWindow { 0 } else { 1 << 20 },
            nodelay: true,
            ..Default::default()
        };
        let connection = Connection { guest: self, later, channel: None };
        if let Ok(session) = server::run_stream(Arc::new(config), stream, connection).await {
            session.await.ok();
        }
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        let is_user = || {
            self.user
                .lock()
                .unwrap()
                .as_ref()
                .is_some_and(|(name, word)| (name, word) == (&user.into(), &password.into()))
        };
        match self.manner {
            Manner::Open => true,
            Manner::Shut => false,
            _ => ((user, password) == (ENDPOINT, ENDPOINT) && !*self.locked.lock().unwrap()) || is_user(),
        }
    }

    /// Runs `sudo SCRIPT 'USER' 'PASSWORD' 'PORT'`; of another command nothing is kept.
    fn run(&self, command: &str) {
        let words: Vec<&str> = command.split('\'').collect();
        if !command.starts_with("sudo ") || matches!(self.manner, Manner::Signal | Manner::Fails | Manner::Opens(_)) {
            return;
        }
        if self.manner != Manner::MakesNobody {
            *self.user.lock().unwrap() = Some((words[1].into(), words[3].into()));
        }
        *self.locked.lock().unwrap() = self.manner != Manner::LeavesEndpoint;
    }
}

struct Connection {
    guest: Arc<Guest>,
    /// Made after it was told a password.
    later: bool,
    channel: Option<Channel<Msg>>,
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok((self.guest.manner == Manner::Banner).then(|| RAW.into()))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.guest.seen.passwords[usize::from(self.later)].fetch_add(1, Ordering::SeqCst);
        Ok(if self.guest.lets_in(user, password) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Manner::Opens(kind) = self.guest.manner {
            tokio::spawn(open_without_end(self.guest.clone(), kind, session.handle()));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let guest = self.guest.clone();
        guest.run(std::str::from_utf8(command).unwrap());
        session.channel_success(id)?;
        match guest.manner {
            Manner::NoStatus => {}
            // What it opens comes first, however long that takes.
            Manner::Opens(_) => return Ok(()),
            Manner::Unending => return session.exit_status_request(id, 0),
            Manner::Signal => {
                let name = Sig::Custom(RAW.repeat(100));
                session.exit_signal_request(id, name, false, RAW, RAW)?;
            }
            Manner::Fails => {
                let handle = session.handle();
                tokio::spawn(async move {
                    handle.extended_data(id, 1, RAW.repeat((1 << 20) / RAW.len()).into_bytes()).await.ok();
                    handle.exit_status_request(id, 7).await.ok();
                    handle.close(id).await.ok();
                });
                return Ok(());
            }
            Manner::Prints => {
                let handle = session.handle();
                tokio::spawn(async move {
                    while handle.data(id, vec![b'\x1b'; 16 << 10]).await.is_ok() {
                        guest.seen.sent.fetch_add(16 << 10, Ordering::SeqCst);
                    }
                });
                return Ok(());
            }
            Manner::Leaves => return session.disconnect(Disconnect::ByApplication, RAW, RAW),
            _ => session.exit_status_request(id, 0)?,
        }
        session.eof(id)?;
        session.close(id)
    }
}

/// Opens channels for as long as anybody hears it.
async fn open_without_end(guest: Arc<Guest>, kind: Kind, handle: Handle) {
    let mut opened = Vec::new();
    loop {
        let channel = match kind {
            Kind::Session => handle.channel_open_session().await,
            Kind::Agent => handle.channel_open_agent().await,
            Kind::X11 => handle.channel_open_x11("127.0.0.1", 1).await,
            Kind::Forwarded => handle.channel_open_forwarded_tcpip("127.0.0.1", 1, "127.0.0.1", 2).await,
            Kind::ForwardedSocket => handle.channel_open_forwarded_streamlocal("/x").await,
            Kind::Direct => handle.channel_open_direct_tcpip("127.0.0.1", 1, "127.0.0.1", 2).await,
            Kind::DirectSocket => handle.channel_open_direct_streamlocal("/x").await,
        };
        match channel {
            Ok(channel) => opened.push(channel),
            Err(_) => return,
        }
        guest.seen.channels.fetch_add(1, Ordering::SeqCst);
    }
}
