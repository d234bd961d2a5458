//! A controller of somebody else's over anweddol's kinds, written with kube-rs as for any cluster: every pool with the
//! label `example.org/claimed=true` gets a claim of its own, which goes when the pool goes or loses its label.
//!
//!   anweddol kubeconfig --name controller --role edit > controller.kubeconfig
//!   KUBECONFIG=controller.kubeconfig cargo run

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

const LABEL: &str = "example.org/claimed";
const FINALIZER: &str = "example.org/claim-for-each-pool";

/// Why a pool is not as it should be; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API said no")]
    Api(#[from] kube::Error),
    #[error("the finalizer could not be kept")]
    Finalizer(#[source] Box<finalizer::Error<kube::Error>>),
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("anweddol.io", "v1alpha1", kind))
}

fn claims(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource("ContainerClaim"))
}

async fn reconcile(pool: Arc<DynamicObject>, client: Arc<Client>) -> Result<Action, Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let pools: Api<DynamicObject> = Api::namespaced_with((*client).clone(), &namespace, &resource("ContainerPool"));
    let claims = claims(&client, &namespace);
    let kept = finalizer(&pools, FINALIZER, pool, |event| async {
        match event {
            Event::Apply(pool) if pool.labels().get(LABEL).is_some_and(|value| value == "true") => {
                claim(&claims, &pool).await
            }
            Event::Apply(pool) | Event::Cleanup(pool) => release(&claims, &pool).await,
        }
    });
    kept.await.map_err(|error| Error::Finalizer(Box::new(error)))
}

fn name(pool: &DynamicObject) -> String {
    format!("{}-claimed", pool.name_any())
}

/// The pool's claim is there, as this controller says.
async fn claim(claims: &Api<DynamicObject>, pool: &DynamicObject) -> Result<Action, kube::Error> {
    let claim = json!({
        "apiVersion": "anweddol.io/v1alpha1",
        "kind": "ContainerClaim",
        "metadata": { "name": name(pool), "labels": { "example.org/of": pool.name_any() } },
        "spec": { "pool": pool.name_any() },
    });
    claims.patch(&name(pool), &PatchParams::apply("claim-for-each-pool"), &Patch::Apply(claim)).await?;
    println!("claimed {}", pool.name_any());
    Ok(Action::await_change())
}

/// The pool has no claim of this controller's.
async fn release(claims: &Api<DynamicObject>, pool: &DynamicObject) -> Result<Action, kube::Error> {
    match claims.delete(&name(pool), &Default::default()).await {
        Ok(_) => println!("released {}", pool.name_any()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    Ok(Action::await_change())
}

fn again(_: Arc<DynamicObject>, error: &Error, _: Arc<Client>) -> Action {
    eprintln!("again: {error:?}");
    Action::requeue(Duration::from_secs(1))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = Client::try_default().await?;
    let pools = Api::<DynamicObject>::all_with(client.clone(), &resource("ContainerPool"));
    println!("watching");
    Controller::new_with(pools, watcher::Config::default(), resource("ContainerPool"))
        .run(reconcile, again, Arc::new(client))
        .for_each(|done| async move {
            if let Err(error) = done {
                eprintln!("{error:?}");
            }
        })
        .await;
    Ok(())
}
