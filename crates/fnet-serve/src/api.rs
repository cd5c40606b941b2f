//! The routes: what is asked, checked and tokenised here, computed by the engine.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fnet_train::data::tasks::dataset::Labels;
use fnet_train::data::tasks::encoding::{Example, Long};
use fnet_train::data::tasks::rows::Row;
use fnet_train::predictor::{Predictor, normalize};
use fnet_train::search::dot;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answers::{Embeddings, Refusal, json_of};
use crate::engine::{Asked, Engine};

type Answer = Result<Response, Refusal>;

/// What handlers share.
pub struct Shared {
    pub engine: Engine,
    /// Texts of a request.
    pub most_texts: usize,
    /// The model's name.
    pub name: String,
}

type Server = State<Arc<Shared>>;
type Received = Result<Bytes, BytesRejection>;

/// All routes.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/embeddings", post(openai))
        .route("/v1/models", get(models))
        .route("/", post(embed)) // where clients of hosted models ask
        .route("/embed", post(embed))
        .route("/predict", post(predict_only))
        .route("/predict/{name}", post(predict))
        .route("/rerank", post(rerank))
        .route("/tokenize", post(tokenize))
        .route("/info", get(info))
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/metrics", get(metrics))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .with_state(shared)
}

/// A body of JSON, whatever its content type says.
fn body<T: DeserializeOwned>(bytes: Received) -> Result<T, Refusal> {
    let bytes = bytes.map_err(|e| Refusal::new(e.status(), e.body_text()))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let status = if e.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Refusal::new(status, format!("the body is not what is expected: {e}"))
    })
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// Tokens of a text, which runs in one piece.
const MOST_OF_A_TEXT: usize = 1 << 15;

/// Texts as a model reads them.
struct Read {
    examples: Vec<Example>,
    tokens: usize,
}

impl Shared {
    /// Checks and encodes rows. Texts that are longer than the model are cut or refused if `truncate` says so, and else read as
    /// `fnet embed` and `fnet predict` read them.
    fn read(
        &self,
        predictor: &Predictor,
        rows: &[Row],
        prompt: Option<&str>,
        truncate: Option<bool>,
    ) -> Result<Read, Refusal> {
        if rows.is_empty() {
            return Err(Refusal::invalid("there is no text: give one at least"));
        }
        self.check_count(rows.len())?;
        let long = truncate.map(|_| Long::Cut);
        // Other connections go on meanwhile.
        let read = tokio::task::block_in_place(|| predictor.encode_by(rows, prompt, long));
        let (examples, longer) = read.map_err(|e| Refusal::invalid(e.to_string()))?;
        if truncate == Some(false) && longer.cut > 0 {
            let message = format!("a text is longer than the model's {} tokens", predictor.longest());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let tokens: usize = examples.iter().map(Example::tokens).sum();
        let longest = examples.iter().map(Example::tokens).max().unwrap_or(0);
        if tokens > self.engine.most_waiting() || longest > MOST_OF_A_TEXT {
            let most = self.engine.most_waiting();
            let message = format!(
                "{tokens} tokens are more than {most} of a request, or one text has more than {MOST_OF_A_TEXT}"
            );
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(Read { examples, tokens })
    }

    fn check_count(&self, texts: usize) -> Result<(), Refusal> {
        if texts <= self.most_texts {
            return Ok(());
        }
        let message = format!("{texts} texts are more than {} of a request", self.most_texts);
        Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }

    async fn compute(&self, asked: Asked, examples: Vec<Example>) -> Result<Vec<Vec<f32>>, Refusal> {
        let Some(answer) = self.engine.ask(asked, examples) else {
            let message = "too much is waiting: try again in a moment";
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, message));
        };
        let failed = |message: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message);
        answer.await.map_err(|_| failed("the server stops".into()))?.map_err(failed)
    }

    /// Vectors of texts, shortened and scaled as asked.
    async fn vectors(
        &self,
        texts: Vec<String>,
        prompt: Option<&str>,
        truncate: Option<bool>,
        (dimensions, normalizes): (Option<usize>, bool),
    ) -> Result<(Vec<Vec<f32>>, usize), Refusal> {
        let predictor = &self.engine.models.vectors;
        let width = predictor.vector_width();
        if let Some(size) = dimensions.filter(|size| !(1..=width).contains(size)) {
            return Err(Refusal::invalid(format!(
                "dimensions {size}: must be from 1 to the model's {width}"
            )));
        }
        let read = self.read(predictor, &rows_of(texts), prompt, truncate)?;
        let mut vectors = self.compute(Asked::Vectors, read.examples).await?;
        for vector in &mut vectors {
            vector.truncate(dimensions.unwrap_or(width));
            if normalizes || predictor.normalizes() {
                normalize(vector);
            }
        }
        Ok((vectors, read.tokens))
    }

    fn predictor(&self, name: &str) -> Result<&Predictor, Refusal> {
        self.engine.models.predictors.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.engine.models.predictors.keys().map(String::as_str).collect();
            let message = format!("there is no predictor `{name}`; there are: {}", known.join(", "));
            Refusal::new(StatusCode::NOT_FOUND, message)
        })
    }
}

fn row(first: String, second: Option<String>) -> Row {
    Row { line: 1, first, second, label: None }
}

fn rows_of(texts: Vec<String>) -> Vec<Row> {
    texts.into_iter().map(|text| row(text, None)).collect()
}

#[derive(Deserialize)]
struct OpenAi {
    input: Value,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
}

async fn openai(State(shared): Server, bytes: Received) -> Answer {
    let asked: OpenAi = body(bytes)?;
    let as_base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Refusal::invalid(format!("encoding_format `{other}`: float or base64"))),
    };
    let texts: Texts = serde_json::from_value(asked.input).map_err(|_| {
        Refusal::invalid("input: give a text or a list of texts; token numbers are another model's")
    })?;
    let (vectors, tokens) = shared.vectors(texts.all(), None, None, (asked.dimensions, true)).await?;
    Ok(json_of(StatusCode::OK, &Embeddings::new(&vectors, as_base64, &shared.name, tokens)))
}

async fn models(State(shared): Server) -> Response {
    let one = json!({"id": shared.name, "object": "model", "created": 0, "owned_by": "fnet"});
    json_of(StatusCode::OK, &json!({"object": "list", "data": [one]}))
}

#[derive(Deserialize)]
struct Embed {
    inputs: Texts,
    #[serde(default)]
    normalize: Option<bool>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    prompt_name: Option<String>,
}

async fn embed(State(shared): Server, bytes: Received) -> Answer {
    let asked: Embed = body(bytes)?;
    if asked.normalize == Some(false) && shared.engine.models.vectors.normalizes() {
        return Err(Refusal::invalid("normalize false: this model's vectors have length one"));
    }
    let (prompt, how) = (asked.prompt_name.as_deref(), (asked.dimensions, asked.normalize.unwrap_or(true)));
    let (vectors, _) = shared.vectors(asked.inputs.all(), prompt, asked.truncate, how).await?;
    Ok(json_of(StatusCode::OK, &vectors))
}

/// One input, or several: each a text or a pair.
#[derive(Deserialize)]
#[serde(untagged)]
enum Inputs {
    One(String),
    Texts(Vec<String>),
    Rows(Vec<Vec<String>>),
}

#[derive(Deserialize)]
struct Predict {
    inputs: Inputs,
    #[serde(default)]
    truncate: Option<bool>,
}

async fn predict_only(State(shared): Server, bytes: Received) -> Answer {
    let mut names = shared.engine.models.predictors.keys();
    let (Some(name), None) = (names.next(), names.next()) else {
        let message = "there is not just one predictor: name it, as in /predict/NAME";
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    };
    let name = name.clone();
    predict(State(Arc::clone(&shared)), Path(name), bytes).await
}

async fn predict(State(shared): Server, Path(name): Path<String>, bytes: Received) -> Answer {
    let predictor = shared.predictor(&name)?;
    let asked: Predict = body(bytes)?;
    let reads_pairs = predictor.reads_pairs();
    let (rows, is_one) = match asked.inputs {
        Inputs::One(text) => (vec![row(text, None)], true),
        Inputs::Texts(texts) => match <[String; 2]>::try_from(texts) {
            Ok([first, second]) if reads_pairs => (vec![row(first, Some(second))], true),
            Ok(both) => (rows_of(both.into()), false),
            Err(texts) => (rows_of(texts), false),
        },
        Inputs::Rows(inputs) => {
            let rows = inputs.into_iter().map(|mut texts| match texts.len() {
                1 => Ok(row(texts.remove(0), None)),
                2 => {
                    let second = texts.pop();
                    Ok(row(texts.remove(0), second))
                }
                n => Err(Refusal::invalid(format!("an input of {n} texts: one or two are read"))),
            });
            (rows.collect::<Result<Vec<_>, _>>()?, false)
        }
    };
    if rows.iter().any(|row| row.second.is_some() != reads_pairs) {
        let wanted = if reads_pairs { "two texts" } else { "one text" };
        return Err(Refusal::invalid(format!("the predictor `{name}` reads {wanted} an input")));
    }
    let labels = predictor.labels().map_err(|e| Refusal::invalid(e.to_string()))?;
    let read = shared.read(predictor, &rows, None, asked.truncate)?;
    let outputs = shared.compute(Asked::Predictor(name), read.examples).await?;
    let mut answers: Vec<Value> = outputs.iter().map(|output| scores(&labels, output)).collect();
    Ok(json_of(StatusCode::OK, &if is_one { answers.remove(0) } else { Value::Array(answers) }))
}

/// Each label with its probability, the likeliest first; of numbers the number.
fn scores(labels: &Labels, output: &[f32]) -> Value {
    let probabilities = labels.probabilities(output);
    if probabilities.is_empty() {
        return json!([{"label": "value", "score": output.first()}]);
    }
    let mut all: Vec<(&String, f32)> = labels.names().iter().zip(probabilities).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.into_iter().map(|(label, score)| json!({"label": label, "score": score})).collect()
}

#[derive(Deserialize)]
struct Rerank {
    query: String,
    texts: Vec<String>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    return_text: bool,
}

async fn rerank(State(shared): Server, bytes: Received) -> Answer {
    let asked: Rerank = body(bytes)?;
    if asked.texts.is_empty() {
        return Err(Refusal::invalid("texts: give one at least"));
    }
    let all = std::iter::once(asked.query).chain(asked.texts.iter().cloned()).collect();
    let (vectors, _) = shared.vectors(all, None, asked.truncate, (None, true)).await?;
    let Some((query, texts)) = vectors.split_first() else {
        return Err(Refusal::invalid("there is no text"));
    };
    let mut ranked: Vec<(usize, f32)> =
        texts.iter().map(|text| dot(text, query) as f32).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let one = |(index, score): (usize, f32)| match asked.return_text {
        true => json!({"index": index, "score": score, "text": asked.texts[index]}),
        false => json!({"index": index, "score": score}),
    };
    Ok(json_of(StatusCode::OK, &ranked.into_iter().map(one).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
struct Tokenize {
    inputs: Texts,
    #[serde(default)]
    add_special_tokens: Option<bool>,
}

async fn tokenize(State(shared): Server, bytes: Received) -> Answer {
    let asked: Tokenize = body(bytes)?;
    let (texts, tokenizer) = (asked.inputs.all(), shared.engine.models.vectors.tokenizer());
    shared.check_count(texts.len())?;
    let special = tokenizer.specials();
    let with_special = asked.add_special_tokens.unwrap_or(true);
    let mut all = Vec::new();
    for text in texts {
        let ids = tokio::task::block_in_place(|| tokenizer.encode(&text));
        let mut ids = ids.map_err(|e| Refusal::invalid(e.to_string()))?;
        if with_special {
            ids.insert(0, tokenizer.special().cls);
            ids.push(tokenizer.special().sep);
        }
        let is_special = |id: u32| special.get(id as usize).copied().unwrap_or(false);
        let one = |id: u32| json!({"id": id, "text": tokenizer.token(id), "special": is_special(id)});
        all.push(ids.into_iter().map(one).collect::<Vec<_>>());
    }
    Ok(json_of(StatusCode::OK, &all))
}

async fn info(State(shared): Server) -> Response {
    let models = &shared.engine.models;
    let predictor = &models.vectors;
    let kind = json!({"embedding": {"dimensions": predictor.vector_width()}});
    let predictors: Vec<&String> = models.predictors.keys().collect();
    json_of(
        StatusCode::OK,
        &json!({
            "model_id": shared.name,
            "model_dtype": "float32",
            "model_type": kind,
            "max_input_length": predictor.longest(),
            "max_client_batch_size": shared.most_texts,
            "predictors": predictors,
            "version": env!("CARGO_PKG_VERSION"),
        }),
    )
}

async fn metrics(State(shared): Server) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.engine.metrics.text()).into_response()
}
