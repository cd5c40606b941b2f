//! From the encoder's output to what a head says.

use fnet_encoder::{Head, Pairs, Pooling};

use crate::OnnxError;
use crate::encoder::{Encoded, Source, Tokens, encode};
use crate::graph::{Graph, Value, int, ints};
use crate::readout::{read, reads_layers, sqrt_mean};

/// An output: its name, and its axes beside the first.
pub type Output = (&'static str, Vec<&'static str>);

/// Writes everything, and returns the outputs.
pub fn write(g: &mut Graph, source: &Source) -> Result<Vec<Output>, OnnxError> {
    let tokens = Tokens::new(g, source);
    let runs_layers = match (source.model.head(), &source.config.sentence) {
        (Head::Sentence, Some(sentence)) => reads_layers(&sentence.pooling),
        _ => true,
    };
    let encoded = encode(g, source, &tokens, runs_layers)?;
    let last = encoded.outputs.last().unwrap_or(&encoded.words).clone();
    let classifies = |g: &mut Graph| classify(g, source, &tokens, &encoded);
    match source.model.head() {
        Head::Encoder => {
            g.output("last_hidden_state", &last);
            Ok(vec![("last_hidden_state", vec!["length", "hidden"])])
        }
        Head::MaskedLm => {
            let logits = predictions(g, source, &last)?;
            g.output("logits", &logits);
            Ok(vec![("logits", vec!["length", "vocabulary"])])
        }
        Head::PreTraining => {
            let logits = predictions(g, source, &last)?;
            g.output("prediction_logits", &logits);
            let classes = classifies(g)?;
            g.output("seq_relationship_logits", &classes);
            Ok(vec![
                ("prediction_logits", vec!["length", "vocabulary"]),
                ("seq_relationship_logits", vec!["classes"]),
            ])
        }
        Head::NextSentence | Head::Classification { .. } | Head::Regression => {
            let logits = classifies(g)?;
            g.output("logits", &logits);
            Ok(vec![("logits", vec!["classes"])])
        }
        Head::Tokens { labels } => {
            let logits = source.head_linear(g, &last, "classifier", [labels, source.config.hidden_size])?;
            g.output("logits", &logits);
            Ok(vec![("logits", vec!["length", "classes"])])
        }
        Head::Sentence => {
            let vectors = sentence(g, source, &tokens, &encoded)?;
            g.output("sentence_embedding", &vectors);
            Ok(vec![("sentence_embedding", vec!["width"])])
        }
    }
}

/// Logits of all tokens.
fn predictions(g: &mut Graph, source: &Source, x: &Value) -> Result<Value, OnnxError> {
    let (config, name) = (source.config, "cls.predictions.transform");
    let hidden = config.hidden_size;
    let y = source.linear(g, x, &format!("{name}.dense"), [hidden, hidden])?;
    let y = source.activation(g, &config.hidden_act, &y, &format!("{name}.transform_act_fn"))?;
    let y = source.norm(g, &y, &format!("{name}.LayerNorm"))?;
    if !config.tie_word_embeddings {
        return source.linear(g, &y, "cls.predictions.decoder", [config.vocab_size, hidden]);
    }
    let words = source.word_embeddings();
    let logits = g.product_by_table(&y, &words, [config.vocab_size, hidden], source.tensor(&words)?);
    let bias = g.floats("cls.predictions.bias", &[config.vocab_size], source.tensor("cls.predictions.bias")?);
    Ok(g.add(&logits, &bias))
}

/// The vector of each text.
fn sentence(g: &mut Graph, source: &Source, tokens: &Tokens, encoded: &Encoded) -> Result<Value, OnnxError> {
    let place = format!("{}.sentence", source.prefix());
    let Some(config) = &source.config.sentence else { return Err(OnnxError::Missing(place)) };
    let (mut x, mut width) = read(g, source, &config.pooling, &place, tokens, encoded)?;
    for (i, dense) in config.dense.iter().enumerate() {
        x = source.head_linear(g, &x, &format!("{place}.{i}"), [dense.outputs, width])?;
        x = source.activation(g, &dense.activation, &x, "")?;
        width = dense.outputs;
    }
    Ok(if config.normalize { g.unit(&x, 1e-12) } else { x })
}

/// Outputs for whole examples.
fn classify(g: &mut Graph, source: &Source, tokens: &Tokens, encoded: &Encoded) -> Result<Value, OnnxError> {
    let (config, head) = (source.config, source.model.head());
    let name = match head {
        Head::PreTraining | Head::NextSentence => "cls.seq_relationship",
        _ => "classifier",
    };
    let is_pair = config.classifier_pairs != Pairs::Together;
    let (pooled, width) = pooled(g, source, &config.classifier_pooling, is_pair, tokens, encoded)?;
    let outputs = head.outputs();
    if !is_pair {
        let logits = source.head_linear(g, &pooled, name, [outputs, width])?;
        if !(config.classifier_bag && name == "classifier") {
            return Ok(logits);
        }
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let words = "classifier.bag.words.weight";
        let table = g.table(words, &[vocabulary, hidden], source.tensor(words)?);
        let words = g.gather(&table, &tokens.ids, 0);
        let summed = sqrt_mean(g, &words, &tokens.own);
        let other = source.head_linear(g, &summed, "classifier.bag.output", [outputs, hidden])?;
        let both = g.add(&logits, &other);
        return Ok(g.scaled(&both, 0.5));
    }
    let (u, v) = (of_pairs(g, &pooled, 0), of_pairs(g, &pooled, 1));
    let difference = g.sub(&u, &v);
    let (difference, product) = (g.one("Abs", &difference), g.mul(&u, &v));
    let (first, second) = (g.unit(&u, 1e-8), g.unit(&v, 1e-8));
    let cosine = g.mul(&first, &second);
    let cosine = g.sum(&cosine, 1);
    let (mut parts, mut seen) = match (head, config.classifier_pairs) {
        (Head::Regression, _) => (vec![], 1),
        (_, Pairs::Towers) => (vec![u, v, difference, product], 4 * width + 1),
        _ => (vec![difference, product], 2 * width + 1),
    };
    parts.push(cosine);
    if config.classifier_matching {
        let is_symmetric = head == Head::Regression || config.classifier_pairs != Pairs::Towers;
        parts.push(matches(g, source, name, is_symmetric, tokens, encoded)?);
        seen += 2;
    }
    let parts: Vec<&Value> = parts.iter().collect();
    let all = g.concat(&parts, -1);
    source.head_linear(g, &all, name, [outputs, seen])
}

/// The first or second text of each pair, of rows in which they take turns.
fn of_pairs(g: &mut Graph, x: &Value, which: i64) -> Value {
    let (starts, ends, axes, steps) = (g.ints(&[which]), g.ints(&[i64::MAX]), g.ints(&[0]), g.ints(&[2]));
    g.op("Slice", &[x, &starts, &ends, &axes, &steps], vec![])
}

/// What is read of each text, as the output layer sees it.
fn pooled(
    g: &mut Graph,
    source: &Source,
    pooling: &Pooling,
    is_pair: bool,
    tokens: &Tokens,
    encoded: &Encoded,
) -> Result<(Value, usize), OnnxError> {
    let place = format!("{}.pooler", source.prefix());
    let (mut x, width) = read(g, source, pooling, &place, tokens, encoded)?;
    if source.config.classifier_standardized {
        let [mean, deviation] = ["mean", "deviation"].map(|part| format!("{place}.{part}"));
        let mean = g.floats(&mean, &[width], source.tensor(&mean)?);
        let deviation = g.floats(&deviation, &[width], source.tensor(&deviation)?);
        let centred = g.sub(&x, &mean);
        x = g.div(&centred, &deviation);
    }
    if source.config.classifier_linear {
        return Ok((x, width));
    }
    let outputs = if is_pair { width } else { source.config.hidden_size };
    let x = source.head_linear(g, &x, &format!("{place}.dense"), [outputs, width])?;
    Ok((if is_pair { x } else { g.one("Tanh", &x) }, outputs))
}

/// How much of each text of a pair is found in the other, `[pairs, 2]`.
fn matches(
    g: &mut Graph,
    source: &Source,
    head: &str,
    is_symmetric: bool,
    tokens: &Tokens,
    encoded: &Encoded,
) -> Result<Value, OnnxError> {
    let (hidden, name) = (source.config.hidden_size, format!("{head}.matching"));
    let units = source.head_linear(g, &encoded.words, &format!("{name}.dense"), [hidden, hidden])?;
    let units = g.unit(&units, 1e-8);
    let weight = format!("{name}.weight");
    let table = g.floats(&weight, &[source.config.vocab_size], source.tensor(&weight)?);
    let told = g.gather(&table, &tokens.ids, 0);
    let told = g.mul(&told, &tokens.own);
    let (first, second) = (of_pairs(g, &units, 0), of_pairs(g, &units, 1));
    let turned = g.transpose(&second, &[0, 2, 1]);
    let cosines = g.matmul(&first, &turned);
    let mut found = Vec::new();
    for (which, (own_axis, best_axis)) in [(1, 2), (2, 1)].into_iter().enumerate() {
        // The best of the other's words, which are no padding: no cosine is less than -1.
        let other = of_pairs(g, &tokens.is_own, 1 - which as i64);
        let other = g.unsqueeze(&other, own_axis);
        let least = g.float(-2.0);
        let best = g.op("Where", &[&other, &cosines, &least], vec![]);
        let best = g.op("ReduceMax", &[&best], vec![ints("axes", &[best_axis]), int("keepdims", 0)]);
        let told = of_pairs(g, &told, which as i64);
        let sum = g.mul(&best, &told);
        let (sum, all, least) = (g.sum(&sum, 1), g.sum(&told, 1), g.float(1e-8));
        let all = g.max(&all, &least);
        found.push(g.div(&sum, &all));
    }
    if is_symmetric {
        found = vec![g.op("Min", &[&found[0], &found[1]], vec![]), g.max(&found[0], &found[1])];
    }
    Ok(g.concat(&[&found[0], &found[1]], 1))
}
