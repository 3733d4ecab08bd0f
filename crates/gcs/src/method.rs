//! A method of a service: its path, and what goes in and out. The constants are generated (see `build.rs`).

use std::marker::PhantomData;

/// Path and types of one unary method.
pub struct Method<Request, Reply> {
    path: &'static str,
    types: PhantomData<fn(Request) -> Reply>,
}

// By hand: a derive would ask the message types for it.
impl<Request, Reply> Clone for Method<Request, Reply> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Request, Reply> Copy for Method<Request, Reply> {}

impl<Request, Reply> Method<Request, Reply> {
    /// `path` is `/<package>.<Service>/<Method>`.
    pub const fn new(path: &'static str) -> Self {
        Method { path, types: PhantomData }
    }

    /// The path on the wire.
    pub const fn path(&self) -> &'static str {
        self.path
    }
}

/// `GetClusterStatus` of `/ray.rpc.autoscaler.AutoscalerStateService/GetClusterStatus`: what people read.
pub fn short_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
