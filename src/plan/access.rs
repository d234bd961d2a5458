//! Access tokens: whether a text is one, and what is taken with each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use subtle::ConstantTimeEq;

use crate::model::{AccessToken, ClaimPhase, Container, ContainerClaim};

/// What a text is among the access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised<'a> {
    /// A good one.
    Good(&'a AccessToken),
    /// One that is disabled.
    Disabled(&'a AccessToken),
    /// One whose time is over.
    Expired(&'a AccessToken),
    /// None.
    Unknown,
}

/// The SHA-256 of no text that anybody knows.
const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the text of this SHA-256, in hex, is, given the token that was found by it, if one was. It is compared to its end,
/// with nobody's where none was found. What the search tells by its time is of hashes: whoever knows one knows no text of it.
pub fn recognise<'a>(found: Option<&'a AccessToken>, sha256: &str, now: Timestamp) -> Recognised<'a> {
    let same: bool = found.map_or(NOBODYS, |token| &token.sha256).as_bytes().ct_eq(sha256.as_bytes()).into();
    match found.filter(|_| same) {
        Some(token) if !token.enabled => Recognised::Disabled(token),
        Some(token) if !good(token, now) => Recognised::Expired(token),
        Some(token) => Recognised::Good(token),
        None => Recognised::Unknown,
    }
}

/// Whether a token is enabled and its time is not over.
pub fn good(token: &AccessToken, now: Timestamp) -> bool {
    token.enabled && token.expires_at.is_none_or(|end| now < end)
}

/// How many containers are taken with each token, by its name. A claim counts until nothing is left of it: while it waits
/// for its machine, while that is its own, and while that goes away, whoever ended it.
pub fn taken<'a, 'b>(
    claims: impl IntoIterator<Item = &'a ContainerClaim>,
    containers: impl IntoIterator<Item = &'b Container>,
) -> BTreeMap<&'a str, u32> {
    let holder = |c: &'b Container| Some((c.metadata.namespace.as_str(), c.spec.claim.as_deref()?));
    let held: BTreeSet<(&str, &str)> = containers.into_iter().filter_map(holder).collect();
    let counts = |claim: &ContainerClaim| match claim.status.phase {
        ClaimPhase::Pending | ClaimPhase::Bound => true,
        ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired => {
            held.contains(&(claim.metadata.namespace.as_str(), claim.metadata.name.as_str()))
        }
    };
    let mut taken = BTreeMap::new();
    for claim in claims.into_iter().filter(|claim| counts(claim)) {
        if let Some(token) = &claim.spec.access_token {
            *taken.entry(token.as_str()).or_default() += 1;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{
        ClaimSpec, ClaimStatus, ContainerSpec, ContainerStatus, Image, Mac, Machine, ObjectMeta, Origin, Quotas,
        Template,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(name: &str, enabled: bool, expires_at: Option<i64>) -> AccessToken {
        AccessToken {
            name: name.into(),
            sha256: format!("{name:0>64}"),
            created_at: at(0),
            expires_at: expires_at.map(at),
            enabled,
            quotas: Quotas::default(),
        }
    }

    #[test]
    fn a_token_is_good_while_it_is_enabled_and_until_its_time_is_over() {
        let tokens =
            [token("a", true, None), token("b", false, None), token("c", true, Some(10)), token("d", false, Some(10))];
        let [a, b, c, d] = &tokens;
        for (found, second, right) in [
            (a, 5, Recognised::Good(a)),
            (b, 5, Recognised::Disabled(b)),
            (c, 9, Recognised::Good(c)),
            (c, 10, Recognised::Expired(c)),
            (d, 10, Recognised::Disabled(d)),
        ] {
            assert_eq!(recognise(Some(found), &found.sha256, at(second)), right, "{} at {second}", found.name);
        }
        for other in [b.sha256.as_str(), "", &a.sha256[1..], &"0".repeat(64)] {
            assert_eq!(recognise(Some(a), other, at(5)), Recognised::Unknown, "what was found is another one");
            assert_eq!(recognise(None, other, at(5)), Recognised::Unknown);
        }
    }

    fn claim(name: &str, token: Option<&str>, phase: ClaimPhase) -> ContainerClaim {
        let spec = ClaimSpec { access_token: token.map(str::to_owned), ..ClaimSpec::of("p", Origin::Embedder) };
        let status = ClaimStatus { phase, ..ClaimStatus::default() };
        ContainerClaim { metadata: ObjectMeta::new("default", name, Uuid::nil(), at(0)), spec, status }
    }

    fn machine(namespace: &str, claim: &str) -> Container {
        Container {
            metadata: ObjectMeta::new(namespace, "m", Uuid::nil(), at(0)),
            spec: ContainerSpec {
                pool: None,
                claim: Some(claim.to_owned()).into(),
                template: Template::of(Image::Iso("/i.iso".into())).into(),
                scheduling_gates: vec![].into(),
                machine: Machine { mac: Mac::default(), port: 1, image_sha256: "".into() },
            },
            status: ContainerStatus::default(),
        }
    }

    #[test]
    fn a_claim_counts_for_its_token_until_nothing_is_left_of_it() {
        use ClaimPhase::{Bound, Expired, Failed, Lost, Pending};
        let claims = [
            claim("a", Some("anna"), Pending),
            claim("b", Some("anna"), Bound),
            claim("c", Some("anna"), Lost),
            claim("d", Some("anna"), Expired),
            claim("e", Some("bert"), Failed),
            claim("f", None, Bound),
        ];
        let counted = |machines: &[Container]| taken(&claims, machines).into_iter().collect::<Vec<_>>();
        assert_eq!(counted(&[]), [("anna", 2)]);
        let others = [machine("red", "c"), machine("default", "f"), machine("default", "b")];
        assert_eq!(counted(&others), [("anna", 2)], "of another namespace, of nobody, of one that counts already");
        assert_eq!(counted(&[machine("default", "c"), machine("default", "e")]), [("anna", 3), ("bert", 1)]);
    }
}
