//! A model opened for use.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use fnet_encoder::{Pooling, Precision, Products, Workspace};
use fnet_onnx::Weights;
use fnet_train::base_model::BaseModel;
use fnet_train::data::tasks::rows::Row;
use fnet_train::predictor::{Prediction, Predictor, normalize};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use rayon::prelude::*;

use crate::raised;
use crate::threads::pool;

/// A model with its tokenizer: `fnet.Model` is the class for people.
#[pyclass(frozen)]
pub struct Model {
    base: BaseModel,
    pooling: Option<Pooling>,
    products: Products,
    threads: usize,
    /// With its head.
    predictor: Mutex<Predictor>,
    /// For vectors, opened when they are first asked for.
    reader: Mutex<Option<Predictor>>,
}

impl Model {
    /// Works on the model's threads, with Python free for others.
    ///
    /// The lock is taken outside the pool: a thread of it that waits for its own work may begin another's.
    fn predicting<R: Send>(
        &self,
        py: Python,
        work: impl FnOnce(&mut Predictor) -> fnet_train::Result<R> + Send,
    ) -> PyResult<R> {
        let pool = pool(self.threads)?;
        let run = || {
            let mut kept = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
            let predictor = &mut *kept;
            pool.install(|| work(predictor))
        };
        py.detach(run).map_err(raised)
    }

    /// As [`predicting`](Self::predicting), with what makes vectors.
    fn reading<R: Send>(
        &self,
        py: Python,
        work: impl FnOnce(&Predictor) -> fnet_train::Result<R> + Send,
    ) -> PyResult<R> {
        let pool = pool(self.threads)?;
        let run = || {
            let mut kept = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = &mut *kept;
            pool.install(|| match kept {
                Some(reader) => work(reader),
                None => {
                    let mut reader = Predictor::open_to_read(&self.base, self.pooling.clone())?;
                    reader.model_mut().set_products(self.products);
                    work(kept.insert(reader))
                }
            })
        };
        py.detach(run).map_err(raised)
    }
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, pooling, precision, threads))]
    fn new(
        py: Python,
        path: Option<PathBuf>,
        pooling: Option<String>,
        precision: &str,
        threads: usize,
    ) -> PyResult<Self> {
        let parse =
            |names: String| names.parse().map_err(|e| PyValueError::new_err(format!("`pooling`: {e}")));
        let pooling = pooling.map(parse).transpose()?;
        let precision = Precision::ALL.into_iter().find(|known| known.name() == precision);
        let precision = precision.ok_or_else(|| PyValueError::new_err("`precision`: f32, bf16 or int8"))?;
        let products = Products::new(precision);
        let base = BaseModel::named(path.as_deref()).map_err(raised)?;
        let workers = pool(threads)?;
        let mut predictor = py.detach(|| workers.install(|| Predictor::open(&base))).map_err(raised)?;
        predictor.model_mut().set_products(products);
        let (predictor, reader) = (Mutex::new(predictor), Mutex::default());
        Ok(Self { base, pooling, products, threads, predictor, reader })
    }

    /// Vectors of texts, float32 as bytes, and how many values each has.
    #[pyo3(signature = (texts, dimensions, normalized, prompt))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        dimensions: Option<usize>,
        normalized: Option<bool>,
        prompt: Option<String>,
    ) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
        let rows = rows(texts.into_iter().map(|text| (text, None)));
        let (bytes, width) = self.reading(py, |reader| {
            const TEXTS: usize = 64;
            let encode = |rows: &[Row]| Ok(reader.encode_by(rows, prompt.as_deref(), None)?.0);
            let examples: Vec<_> = rows.par_chunks(TEXTS).map(encode).collect::<fnet_train::Result<_>>()?;
            let raw = reader.raw_vectors_of(&examples.concat(), &mut Workspace::new())?;
            let whole = reader.vector_width();
            let width = dimensions.unwrap_or(whole);
            if !(1..=whole).contains(&width) {
                return Err(fnet_train::settings::refused(
                    &format!("dimensions {width}"),
                    format!("must be from 1 to the model's {whole}"),
                ));
            }
            let mut bytes = Vec::with_capacity(rows.len() * width * size_of::<f32>());
            for vector in raw.chunks_exact(whole) {
                let mut vector = vector[..width].to_vec();
                if normalized.unwrap_or(reader.normalizes()) {
                    normalize(&mut vector);
                }
                bytes.extend(vector.iter().flat_map(|v| v.to_ne_bytes()));
            }
            Ok((bytes, width))
        })?;
        Ok((PyByteArray::new(py, &bytes), width))
    }

    /// A dictionary for each text, or pair of texts.
    #[pyo3(signature = (texts, seconds))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        seconds: Option<Vec<String>>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let predictions = self.predicting(py, |predictor| match seconds {
            None => predictor.predict(&texts),
            Some(seconds) => {
                let pairs: Vec<(String, String)> = texts.into_iter().zip(seconds).collect();
                predictor.predict_pairs(&pairs)
            }
        })?;
        let names = self.labels(py)?;
        predictions.into_iter().map(|prediction| dictionary(py, prediction, &names)).collect()
    }

    /// Names of classes or labels; empty where a number is predicted.
    fn labels(&self, py: Python) -> PyResult<Vec<String>> {
        use fnet_train::data::tasks::dataset::Labels;
        match self.predicting(py, |predictor| predictor.labels())? {
            Labels::Classes(names) | Labels::Several(names) => Ok(names),
            Labels::Number => Ok(Vec::new()),
        }
    }

    /// The bytes of an ONNX file: of what is predicted, or of the vectors.
    #[pyo3(signature = (vectors, weights))]
    fn export_onnx<'py>(
        &self,
        py: Python<'py>,
        vectors: bool,
        weights: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let weights = match weights {
            "float32" => Weights::Float32,
            "bfloat16" => Weights::Bfloat16,
            "int8" => Weights::Int8,
            other => {
                let message = format!("`weights`: {other}; float32, bfloat16 or int8");
                return Err(PyValueError::new_err(message));
            }
        };
        let bytes = match vectors {
            true => self.reading(py, |reader| Ok(fnet_onnx::export(reader.model(), weights)))?,
            false => self.predicting(py, |predictor| Ok(fnet_onnx::export(predictor.model(), weights)))?,
        };
        Ok(PyBytes::new(py, &bytes.map_err(|e| PyValueError::new_err(e.to_string()))?))
    }

    /// For each mask of a text, its guesses: token, probability and the whole text.
    fn fill_mask(&self, py: Python, text: String, top: usize) -> PyResult<Vec<Vec<(String, f32, String)>>> {
        let filled = self.predicting(py, |predictor| predictor.fill_masks(&text, top))?;
        let guesses = |guesses: Vec<fnet_train::fill_mask::Guess>| {
            guesses.into_iter().map(|guess| (guess.token, guess.probability, guess.text)).collect()
        };
        Ok(filled.masks.into_iter().map(guesses).collect())
    }
}

fn rows(texts: impl Iterator<Item = (String, Option<String>)>) -> Vec<Row> {
    let row = |(i, (first, second))| Row { line: i + 1, first, second, label: None };
    texts.enumerate().map(row).collect()
}

fn dictionary<'py>(
    py: Python<'py>,
    prediction: Prediction,
    names: &[String],
) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    let named = |probabilities: Vec<f32>| {
        let shares = PyDict::new(py);
        names.iter().zip(probabilities).try_for_each(|(name, share)| shares.set_item(name, share))?;
        PyResult::Ok(shares)
    };
    match prediction {
        Prediction::Number(value) => all.set_item("value", value)?,
        Prediction::Class { label, probabilities } => {
            all.set_item("label", label)?;
            all.set_item("probabilities", named(probabilities)?)?;
        }
        Prediction::Labels { labels, probabilities } => {
            all.set_item("labels", labels)?;
            all.set_item("probabilities", named(probabilities)?)?;
        }
    }
    Ok(all)
}
