//! Builds the router and remembers every route, so that a test can hold the OpenAPI document against it, and so that
//! the front knows which answers are public.

use crate::app::App;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::Method;
use std::collections::HashSet;

/// Routes as they are added.
#[derive(Default)]
pub struct Routes {
    router: Router<App>,
    list: Vec<(Method, &'static str)>,
    public: HashSet<&'static str>,
}

impl Routes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A GET (and HEAD) that anyone may send, from any origin.
    #[must_use]
    pub fn public<H: Handler<T, App>, T: 'static>(mut self, path: &'static str, handler: H) -> Self {
        self.public.insert(path);
        self.get(path, handler)
    }

    /// A GET (and HEAD).
    #[must_use]
    pub fn get<H: Handler<T, App>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::GET, path, get(handler))
    }

    /// A POST.
    #[must_use]
    pub fn post<H: Handler<T, App>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::POST, path, post(handler))
    }

    /// A PUT.
    #[must_use]
    pub fn put<H: Handler<T, App>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::PUT, path, put(handler))
    }

    /// A PATCH.
    #[must_use]
    pub fn patch<H: Handler<T, App>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::PATCH, path, patch(handler))
    }

    /// A DELETE.
    #[must_use]
    pub fn delete<H: Handler<T, App>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::DELETE, path, delete(handler))
    }

    fn add(mut self, method: Method, path: &'static str, route: MethodRouter<App>) -> Self {
        self.list.push((method, path));
        self.router = self.router.route(path, route);
        self
    }

    /// Every method and path, in order.
    #[must_use]
    pub fn list(&self) -> &[(Method, &'static str)] {
        &self.list
    }

    /// The router, and the paths whose GET is public.
    pub fn into_parts(self) -> (Router<App>, HashSet<&'static str>) {
        (self.router, self.public)
    }
}
