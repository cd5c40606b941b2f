//! What others have published on tasks of a name, to stand beside our figures.

/// Figures of a task: what trains a frozen trunk's input, norms and output, what trains everything, and who says so.
pub(super) struct Published {
    pub task: &'static str,
    pub frozen: &'static str,
    pub full: &'static str,
    pub source: &'static str,
}

const LU: &str =
    "Lu et al. 2021, Pretrained transformers as universal computation engines (GPT-2 size, GPUs)";

pub(super) const PUBLISHED: [Published; 6] = [
    Published { task: "bit-xor", frozen: "1.00", full: "1.00", source: LU },
    Published { task: "bit-memory", frozen: "1.00 (random: 0.758)", full: "1.00", source: LU },
    Published { task: "listops", frozen: "0.384", full: "0.38", source: LU },
    Published { task: "mnist", frozen: "0.98", full: "0.991", source: LU },
    Published { task: "cifar10", frozen: "0.68 (random: 0.617)", full: "0.703", source: LU },
    Published {
        task: "mnist-1d",
        frozen: "",
        full: "0.94 (convolution), 0.32 (linear)",
        source: "Greydanus 2020, Scaling down deep learning",
    },
];
