//! The few calls that `virt` does not wrap, or wraps with a leak. With [`crate::unwrapped`] the only unsafe code of the
//! product.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_void};
use std::ptr;

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::network::Network;
use virt_sys as sys;

/// What callbacks tell. Called on the event loop's thread: it must neither block nor call libvirt.
pub(super) trait Listener: Send + Sync + 'static {
    /// Something happened to a domain.
    fn domain(&self, uuid: Uuid);
    /// The guest brought up its card.
    fn card(&self, uuid: Uuid);
    /// The connection is dead.
    fn closed(&self, reason: CloseReason);
}

/// Why a connection is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The daemon went away.
    Eof,
    /// The daemon does not answer any more.
    Keepalive,
    /// Another one.
    Other(c_int),
}

/// The callbacks of one connection; dropping it takes them back.
pub(super) struct Subscription {
    connect: Connect,
    lifecycle: c_int,
    card: Option<c_int>,
}

type Shared = Box<dyn Listener>;

/// Registers both callbacks.
pub(super) fn subscribe(connect: &Connect, listener: impl Listener + Clone) -> Result<Subscription, Error> {
    let opaque = into_opaque(Box::new(listener.clone()));
    let callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int =
        on_lifecycle;
    // SAFETY: libvirt declares one generic type for callbacks of every event and calls each with the arguments of
    // its event id; `on_lifecycle` has those of VIR_DOMAIN_EVENT_ID_LIFECYCLE (VIR_DOMAIN_EVENT_CALLBACK in C).
    let generic = unsafe {
        std::mem::transmute::<
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int,
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        >(callback)
    };
    // SAFETY: the connection is open for as long as `connect` lives; a null domain means all domains; `opaque` is
    // a live `Shared`, owned by libvirt from here on and freed by `free_shared` exactly once.
    let lifecycle = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
            Some(generic),
            opaque,
            Some(free_shared),
        )
    };
    if lifecycle < 0 {
        let error = Error::last_error();
        // SAFETY: a registration that failed did not take `opaque`.
        unsafe { free_shared(opaque) };
        return Err(error);
    }
    let card = subscribe_cards(connect, Box::new(listener.clone()));
    // A hint that spares a moment: whoever is not told finds out.
    let card = card.inspect_err(|error| tracing::debug!(reason = error.message(), "no word of guests' cards")).ok();
    let subscription = Subscription { connect: connect.clone(), lifecycle, card };
    let opaque = into_opaque(Box::new(listener));
    // SAFETY: as above; `on_close` has the type that this call declares.
    let close =
        unsafe { sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(on_close), opaque, Some(free_shared)) };
    if close < 0 {
        let error = Error::last_error();
        // SAFETY: a registration that failed did not take `opaque`.
        unsafe { free_shared(opaque) };
        return Err(error);
    }
    Ok(subscription)
}

/// Registers for what QEMU says when a guest tells its card what to listen to, which it does when it brings it up. libvirt
/// passes it on, and does nothing with it: it does not know of the cards of user networking.
fn subscribe_cards(connect: &Connect, listener: Shared) -> Result<c_int, Error> {
    let opaque = into_opaque(listener);
    // SAFETY: the connection is open for as long as `connect` lives; a null domain means all; the name is copied; `on_card` has
    // the type that this call declares; `opaque` as in `subscribe`.
    let card = unsafe {
        sys::virConnectDomainQemuMonitorEventRegister(
            connect.as_ptr(),
            ptr::null_mut(),
            c"NIC_RX_FILTER_CHANGED".as_ptr(),
            Some(on_card),
            opaque,
            Some(free_shared),
            0,
        )
    };
    if card < 0 {
        let error = Error::last_error();
        // SAFETY: a registration that failed did not take `opaque`.
        unsafe { free_shared(opaque) };
        return Err(error);
    }
    Ok(card)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: the connection is open as long as `self.connect` lives and the ids are those that it gave. The calls
        // fail harmlessly on a dead connection.
        unsafe {
            sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), self.lifecycle);
            if let Some(card) = self.card {
                sys::virConnectDomainQemuMonitorEventDeregister(self.connect.as_ptr(), card);
            }
            sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close));
        }
    }
}

fn into_opaque(listener: Shared) -> *mut c_void {
    Box::into_raw(Box::new(listener)).cast()
}

/// Frees what [`into_opaque`] made.
///
/// SAFETY: called once for each, and never during or before the last use: libvirt promises both for `freecb`.
unsafe extern "C" fn free_shared(opaque: *mut c_void) {
    // SAFETY: `opaque` came from `Box::into_raw` of a `Box<Shared>`.
    drop(unsafe { Box::from_raw(opaque.cast::<Shared>()) });
}

/// SAFETY: libvirt calls it with a live domain and the `opaque` of the registration.
unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: `domain` is live during the call; `opaque` is ours and is only freed after the last call.
    unsafe {
        if let Some(uuid) = uuid(domain) {
            (*opaque.cast::<Shared>()).domain(uuid);
        }
    }
    0
}

/// SAFETY: libvirt calls it with a live domain and the `opaque` of the registration.
unsafe extern "C" fn on_card(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: *const c_char,
    _seconds: c_longlong,
    _micros: c_uint,
    _details: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_lifecycle`.
    unsafe {
        if let Some(uuid) = uuid(domain) {
            (*opaque.cast::<Shared>()).card(uuid);
        }
    }
}

/// SAFETY: `domain` is live.
unsafe fn uuid(domain: sys::virDomainPtr) -> Option<Uuid> {
    let mut uuid = [0u8; 16];
    // SAFETY: the buffer has VIR_UUID_BUFLEN bytes.
    let got = unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) };
    (got == 0).then(|| Uuid::from_bytes(uuid))
}

/// SAFETY: libvirt calls it with the `opaque` of the registration.
unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    let reason = match reason as sys::virConnectCloseReason {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => CloseReason::Eof,
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => CloseReason::Keepalive,
        _ => CloseReason::Other(reason),
    };
    // SAFETY: `opaque` is ours and is only freed after the last call.
    unsafe { (*opaque.cast::<Shared>()).closed(reason) };
}

/// Where libvirt reads what it writes to its log.
const LOG_OUTPUTS: &str = "LIBVIRT_LOG_OUTPUTS";

/// Keeps libvirt from writing a log of its own to standard error, unless the environment says otherwise. An embedded
/// libvirt calls every look-up of a domain that is gone an error; what matters reaches us as a returned error.
///
/// Works as the first thing a program does; once there is a second thread, it does nothing and says `false`.
pub fn quiet() -> bool {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone && std::env::var_os(LOG_OUTPUTS).is_none() {
        // SAFETY: nobody else reads or writes the environment, because this is the only thread.
        unsafe { std::env::set_var(LOG_OUTPUTS, "4:file:/dev/null") };
    }
    alone
}

/// A lease of the network's DHCP server for one of a domain's cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// The card.
    pub mac: String,
    /// The address, as libvirt writes it; of any family.
    pub address: String,
    /// What the card's machine called itself, in hexadecimal bytes; only in a network's list.
    pub client: Option<String>,
}

/// All leases of a network's DHCP server, of machines that are gone too. `virt` does not have this call.
pub(super) fn network_leases(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is live as long as `network` is; a null card means all; `list` is written only on success.
    let count = unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &mut list, 0) };
    if count < 0 {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt's strings live until their lease is freed, and are null where there is nothing to say.
    let text = |text: *const std::ffi::c_char| unsafe {
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    let mut leases = Vec::new();
    for index in 0..count as usize {
        // SAFETY: libvirt made `count` leases, each freed once, here, after the copies.
        unsafe {
            let lease = *list.add(index);
            if let (Some(mac), Some(address)) = (text((*lease).mac), text((*lease).ipaddr)) {
                leases.push(Lease { mac, address, client: text((*lease).clientid) });
            }
            sys::virNetworkDHCPLeaseFree(lease);
        }
    }
    // SAFETY: the list itself came from malloc, or is null.
    unsafe { libc_free(list.cast()) };
    Ok(leases)
}

/// The leases of a domain's cards. `virt` has this call too, but leaks a little with each.
pub(super) fn leases(domain: &Domain) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virDomainInterfacePtr = ptr::null_mut();
    // SAFETY: the domain is live as long as `domain` is; `list` is written only on success.
    let count = unsafe {
        sys::virDomainInterfaceAddresses(domain.as_ptr(), &mut list, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0)
    };
    if count < 0 {
        return Err(Error::last_error());
    }
    let mut leases = Vec::new();
    for index in 0..count as usize {
        // SAFETY: libvirt made `count` interfaces with `naddrs` addresses each, every one with C strings that live
        // until it is freed, which happens once, here, after the copies.
        unsafe {
            let interface = *list.add(index);
            if !(*interface).hwaddr.is_null() {
                let mac = CStr::from_ptr((*interface).hwaddr).to_string_lossy().into_owned();
                for nth in 0..(*interface).naddrs as usize {
                    let address = CStr::from_ptr((*(*interface).addrs.add(nth)).addr).to_string_lossy();
                    leases.push(Lease { mac: mac.clone(), address: address.into_owned(), client: None });
                }
            }
            sys::virDomainInterfaceFree(interface);
        }
    }
    // SAFETY: the list itself came from malloc, or is null.
    unsafe { libc_free(list.cast()) };
    Ok(leases)
}

unsafe extern "C" {
    /// The C library's; libvirt hands out memory that has to go back there.
    #[link_name = "free"]
    fn libc_free(memory: *mut c_void);
}
