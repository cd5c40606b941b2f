//! Answers and errors as JSON, in the shapes that clients expect.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Why a request gets no answer.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What is wrong with what was asked.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

impl IntoResponse for Refusal {
    /// Readable by clients of OpenAI, which look into `error`, and by those of text-embeddings-inference, which read
    /// `error_type` beside it.
    fn into_response(self) -> Response {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "Overloaded",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::INTERNAL_SERVER_ERROR => "Backend",
            _ => "Validation",
        };
        let error = json!({"message": self.message, "type": kind, "code": self.status.as_u16()});
        let mut response = json_of(self.status, &json!({"error": error, "error_type": kind}));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

/// A response of JSON.
pub fn json_of(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            (status, [(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// OpenAI's list of vectors.
#[derive(Serialize)]
pub struct Embeddings<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Values<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    Numbers(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl<'a> Embeddings<'a> {
    /// Vectors made of so many tokens.
    pub fn new(vectors: &'a [Vec<f32>], as_base64: bool, model: &'a str, tokens: usize) -> Self {
        let values = |vector: &'a Vec<f32>| match as_base64 {
            true => Values::Base64(base64::encode(little_endian(vector))),
            false => Values::Numbers(vector),
        };
        let one = |(index, vector)| Embedding { object: "embedding", index, embedding: values(vector) };
        let data = vectors.iter().enumerate().map(one).collect();
        let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
        Self { object: "list", data, model, usage }
    }
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}
