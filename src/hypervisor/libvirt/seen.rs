//! What libvirt says, in our words: domains, and errors.

use uuid::Uuid;
use virt::domain::{Domain, DomainPausedReason, DomainState as Raw, DomainStateReason as Reason};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};

use super::link::CallError;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::xml::{self, Bears};
use crate::model::{DomainSeen, DomainState, Mark, Pause};

pub(super) fn see(domain: &Domain) -> Result<DomainSeen, Error> {
    let (state, why) = domain.state()?;
    let state = match state {
        Enum::Known(Raw::Running | Raw::Blocked) => DomainState::Running,
        Enum::Known(Raw::Paused | Raw::PMSuspended) => DomainState::Paused(match why {
            Enum::Known(Reason::Paused(Enum::Known(DomainPausedReason::IOError))) => Pause::DiskFull,
            Enum::Known(_) | Enum::Unknown(_) => Pause::Asked,
        }),
        Enum::Known(Raw::NoState | Raw::Shutdown | Raw::Shutoff | Raw::Crashed) | Enum::Unknown(_) => DomainState::Off,
    };
    let Bears { mark, keepsake } = xml::bears(&domain.xml_desc(0)?);
    let keepsake = keepsake.map(|kept| kept.digest);
    Ok(DomainSeen { uuid: domain.uuid()?, name: domain.name()?, mark, state, keepsake })
}

pub(super) fn domain_mark(domain: &Domain) -> Result<Option<Mark>, Error> {
    Ok(xml::mark(&domain.xml_desc(0)?))
}

pub(super) fn is(error: &Error, number: ErrorNumber) -> bool {
    error.code() == number.into()
}

pub(super) fn failed(what: &'static str, uuid: Uuid, error: CallError) -> HypervisorError {
    match error {
        CallError::Unreachable(error) => error,
        CallError::Refused(error) => {
            let reason = error.message().to_owned();
            match error.code() {
                Enum::Known(ErrorNumber::ConfigUnsupported | ErrorNumber::XmlError | ErrorNumber::XmlDetail) => {
                    HypervisorError::Invalid { what: format!("{what} of domain {uuid}"), reason }
                }
                Enum::Known(_) | Enum::Unknown(_) => HypervisorError::Failed { what, uuid, reason },
            }
        }
    }
}
