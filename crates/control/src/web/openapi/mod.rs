//! The description of the API (OpenAPI 3.1), made of the table of routes: no route is without an operation.

mod schemas;

use axum::http::Method;
use serde_json::{Map, Value, json};

#[cfg(test)]
pub(crate) use self::schemas::ANSWERS;
use super::serving::{BODY_BYTES_MAX, Needs, Route};

/// Writes the description.
pub(crate) fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let of_path = paths.entry(route.path).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_lowercase();
        if let Some(operations) = of_path.as_object_mut() {
            operations.insert(method, operation(route));
        }
    }
    let mut forms = schemas::all();
    forms.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stockade",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every page is data, too. Programs use a token: `stockade serve token`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-stockade"},
            },
            "schemas": forms,
        },
    })
}

/// The form of every error (RFC 9457).
fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "status", "title"],
        "properties": {
            "type": {"type": "string", "description": "The kind, for programs."},
            "status": {"type": "integer"},
            "title": {"type": "string", "description": "What is wrong."},
            "remedy": {"type": "string", "description": "The next step."},
            "retry_ms": {"type": "integer", "description": "When to try again."},
        },
    })
}

fn operation(route: &Route) -> Value {
    let is_data = route.path.starts_with("/api/");
    let named = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
    });
    let query = match route.method {
        Method::GET => schemas::query(route.path),
        _ => Vec::new(),
    };
    let mut operation = json!({
        "summary": route.about,
        "parameters": named.chain(query).collect::<Vec<_>>(),
        "responses": responses(route, is_data),
    });
    let Some(members) = operation.as_object_mut() else {
        return operation;
    };
    let security = match route.needs {
        Needs::Nothing => json!([]),
        Needs::SignIn | Needs::Role(_) => json!([{"token": []}, {"session": []}]),
    };
    members.insert("security".to_owned(), security);
    if let Needs::Role(action) = route.needs {
        members.insert("x-stockade-action".to_owned(), json!(action));
    }
    if route.method == Method::POST {
        let form = json!({
            "description": format!("A form of at most {BODY_BYTES_MAX} bytes; browsers add the field `token` of their session."),
            "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
        });
        members.insert("requestBody".to_owned(), form);
    }
    operation
}

fn responses(route: &Route, is_data: bool) -> Value {
    let kind = match (route.path, is_data) {
        ("/api/v1/stream", _) => "text/event-stream",
        ("/healthz", _) | (_, true) => "application/json",
        (_, false) => "text/html",
    };
    let form = schemas::answer(route.path);
    let content = form.map_or_else(|| json!({}), |form| json!({"schema": form}));
    let mut responses = json!({"200": {"description": "done", "content": {kind: content}}});
    let Some(members) = responses.as_object_mut() else {
        return responses;
    };
    let problem = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
    let refused = |what: &str| {
        if is_data {
            json!({"description": what, "content": {"application/problem+json": problem.clone()}})
        } else {
            json!({"description": what, "content": {"text/html": {}}})
        }
    };
    if !is_data && route.method == Method::POST {
        members.insert(
            "303".to_owned(),
            json!({"description": "done; go on there"}),
        );
    }
    let of_needs: &[(&str, &str)] = match route.needs {
        Needs::Nothing => &[],
        Needs::SignIn => &[("401", "not signed in")],
        Needs::Role(_) => &[
            ("401", "not signed in"),
            ("403", "not for these roles"),
            ("404", "not there, or not for the caller"),
        ],
    };
    for (status, what) in of_needs {
        members.insert((*status).to_owned(), refused(what));
    }
    members.insert("421".to_owned(), refused("for another host"));
    responses
}
