//! Objects as other controllers hold and own them.

use serde_json::{Value, json};

use super::{Bench, NS, block_on};
use crate::api::objects::{Deletion, Objects, Propagation, Request, Subresource, Verb};
use crate::model::*;
use crate::store::Txn;
use crate::store::records::{self, Versioned};

const HOLD: &str = "example.org/hold";

impl Bench {
    /// The API over the same store.
    pub(crate) fn objects(&self) -> Objects {
        Objects::new(self.store.clone(), self.operator.births.clone(), self.operator.clock.clone())
    }

    pub(crate) fn patch(&self, object: &ObjectRef, patch: Value) {
        block_on(self.objects().write(&Request::new(object.clone(), Verb::MergePatch, patch))).unwrap();
    }

    pub(crate) fn patch_status(&self, object: &ObjectRef, patch: Value) {
        let request = Request::new(object.clone(), Verb::MergePatch, patch);
        block_on(self.objects().write(&Request { subresource: Some(Subresource::Status), ..request })).unwrap();
    }

    pub(crate) fn end(&self, object: &ObjectRef, propagation: Propagation) -> bool {
        let deletion = Deletion { propagation: Some(propagation), ..Deletion::default() };
        block_on(self.objects().delete(object, &deletion)).unwrap().gone
    }

    /// An object as it is shown, if it is there.
    pub(crate) fn shown(&self, object: &ObjectRef) -> Option<Value> {
        self.objects().get(object).ok()
    }

    /// A finalizer on any object that is there.
    pub(crate) fn hold(&mut self, which: usize) {
        let objects = self.all();
        let object = &objects[which % objects.len()];
        if self.shown(object).is_some_and(|shown| shown["metadata"]["deletionTimestamp"].is_null()) {
            self.patch(object, json!({ "metadata": { "finalizers": [HOLD] } }));
        }
    }

    /// Takes all of them away.
    pub(crate) fn free(&self) {
        fn free<T: Object>(bench: &Bench) {
            let held: Vec<Versioned<T>> = records::list(&*bench.store, NS).unwrap();
            for read in held.into_iter().filter(|read| !read.object.meta().finalizers.is_empty()) {
                let mut freed = read.object.clone();
                freed.meta_mut().finalizers.retain(|name| name != HOLD);
                bench.store.txn(Txn::default().unchanged(&read).write(&freed)).wait().unwrap();
            }
        }
        free::<Container>(self);
        free::<ContainerPool>(self);
        free::<ContainerClaim>(self);
    }
}
