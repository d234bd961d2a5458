//! Giving a lease back in the name of a guest that is gone.
//!
//! libvirt has no call for it, and a lease lasts five minutes: a host that makes and ends machines faster than its
//! range has addresses in that time would have none left. So the network's own DHCP server is told what the guest
//! would have told it (RFC 2131, DHCPRELEASE), from the host, through the bridge, as dnsmasq's tool `dhcp_release`
//! does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};

use super::ffi::Lease;

const SERVER_PORT: u16 = 67;
const RELEASE: u8 = 7;

/// Tells the server at `gateway`, on `bridge`, that a lease is not needed any more. There is no answer: whether it was
/// understood, the next list of leases says.
pub(super) fn release(bridge: &str, gateway: Ipv4Addr, lease: &Lease) -> io::Result<()> {
    let Some(packet) = packet(gateway, lease) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{lease:?} is no lease of IPv4")));
    };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The server believes who comes through its bridge.
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.send_to(&packet, &SocketAddr::V4(SocketAddrV4::new(gateway, SERVER_PORT)).into())?;
    Ok(())
}

/// The message; `None` for what is no lease of an IPv4 address by an Ethernet card.
fn packet(gateway: Ipv4Addr, lease: &Lease) -> Option<Vec<u8>> {
    let (mac, address) = (bytes(&lease.mac)?, lease.address.parse::<Ipv4Addr>().ok()?);
    if mac.len() != 6 {
        return None;
    }
    // BOOTREQUEST, Ethernet, six bytes, no hops; a number of the exchange; no seconds, no flags.
    let mut packet = vec![1, 1, 6, 0];
    packet.extend(rand_number());
    packet.extend([0; 4]);
    packet.extend(address.octets());
    packet.extend([0; 12]);
    packet.extend(mac);
    // The rest of the card's address, the server's name and the file.
    packet.extend([0; 10 + 64 + 128]);
    packet.extend([0x63, 0x82, 0x53, 0x63]);
    packet.extend([53, 1, RELEASE, 54, 4]);
    packet.extend(gateway.octets());
    if let Some(client) = lease.client.as_deref().and_then(bytes)
        && let Ok(length) = u8::try_from(client.len())
    {
        packet.extend([61, length]);
        packet.extend(client);
    }
    packet.push(255);
    Some(packet)
}

fn rand_number() -> [u8; 4] {
    let mut number = [0; 4];
    aws_lc_rs::rand::fill(&mut number).expect("the operating system gives random bytes");
    number
}

/// `52:54:00:0a:0b:0c`
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(client: Option<&str>) -> Lease {
        let (mac, address) = ("52:54:00:0a:0b:0c".to_owned(), "192.168.127.5".to_owned());
        Lease { mac, address, client: client.map(str::to_owned) }
    }

    #[test]
    fn a_release_names_the_address_the_card_the_server_and_the_client() {
        let gateway = Ipv4Addr::new(192, 168, 127, 1);
        let packet = packet(gateway, &lease(Some("01:52:54:00:0a:0b:0c"))).unwrap();
        assert_eq!(packet[..4], [1, 1, 6, 0]);
        assert_eq!(packet[12..16], [192, 168, 127, 5]);
        assert_eq!(packet[28..34], [0x52, 0x54, 0, 0x0a, 0x0b, 0x0c]);
        assert_eq!(packet[236..240], [0x63, 0x82, 0x53, 0x63]);
        let options = [53, 1, 7, 54, 4, 192, 168, 127, 1, 61, 7, 1, 0x52, 0x54, 0, 0x0a, 0x0b, 0x0c, 255];
        assert_eq!(packet[240..], options);
    }

    #[test]
    fn what_is_no_lease_of_ipv4_is_none() {
        let gateway = Ipv4Addr::LOCALHOST;
        for bad in [
            Lease { address: "fe80::1".into(), ..lease(None) },
            Lease { mac: "52:54".into(), ..lease(None) },
            Lease { mac: "x".into(), ..lease(None) },
        ] {
            assert_eq!(packet(gateway, &bad), None);
        }
        assert_eq!(packet(gateway, &lease(Some("*"))).unwrap().len(), 240 + 9 + 1);
    }
}
