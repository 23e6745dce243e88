//! Gradient checkpointing: activations are recomputed instead of kept (Chen et al. 2016, arXiv
//! 1604.06174).
//!
//! The forward pass keeps only the input of each block; the backward pass runs one block at a time
//! again, with a graph. It needs the memory of one block instead of all, and the time of one more
//! forward pass. The blocks must be deterministic; what they compute does not matter here.
//!
//! A loss may encode tiles that were synthesised from earlier encodings, so that its graph runs
//! through several passes. Each pass is detached at both ends, and [`Tape::backward`] visits the
//! passes from the last to the first: it propagates the gradient at the output of a pass through
//! its blocks to its tiles, and from there into the graph of the loss as ⟨tiles, their gradient⟩.

use std::cell::RefCell;

use tch::{Tensor, no_grad};

/// One forward pass.
struct Pass {
    /// Tiles [B, C, H, W] with the graph that made them, and the same tensor detached from it.
    tiles: Tensor,
    cut: Tensor,
    /// [B, T, E] with the graph from `cut`.
    embedded: Tensor,
    /// The input of each block, [B, T, E], without graph.
    inputs: Vec<Tensor>,
    /// The output of the last block, where the graph of the loss begins.
    output: Tensor,
}

/// The passes since the last `backward`.
#[derive(Default)]
pub(crate) struct Tape {
    passes: RefCell<Vec<Pass>>,
}

/// The stages of a forward pass.
pub(crate) struct Stages<'a> {
    /// The embedding: tiles [B, C, H, W] → [B, T, E].
    pub embed: &'a dyn Fn(&Tensor) -> Tensor,
    /// The number of blocks.
    pub blocks: usize,
    /// A block by its index: [B, T, E] → [B, T, E].
    pub block: &'a dyn Fn(usize, &Tensor) -> Tensor,
}

impl Tape {
    /// Runs a forward pass: tiles [B, C, H, W] → [B, T, E], a leaf whose gradient `backward`
    /// propagates. Without gradients nothing is kept.
    pub(crate) fn forward(&self, tiles: &Tensor, stages: &Stages<'_>) -> Tensor {
        let cut = tiles.detach().set_requires_grad(tiles.requires_grad());
        let embedded = (stages.embed)(&cut);
        if !embedded.requires_grad() {
            return (0..stages.blocks).fold(embedded, |x, i| (stages.block)(i, &x));
        }
        let mut inputs = Vec::with_capacity(stages.blocks);
        let output = no_grad(|| {
            (0..stages.blocks).fold(embedded.detach(), |x, i| {
                let next = (stages.block)(i, &x);
                inputs.push(x);
                next
            })
        });
        let output = output.set_requires_grad(true);
        let leaf = output.shallow_clone();
        self.passes.borrow_mut().push(Pass {
            tiles: tiles.shallow_clone(),
            cut,
            embedded,
            inputs,
            output,
        });
        leaf
    }

    /// Computes the gradients of `loss` through all passes since the last call.
    pub(crate) fn backward(&self, loss: &Tensor, stages: &Stages<'_>) {
        let mut passes = std::mem::take(&mut *self.passes.borrow_mut());
        let mut loss = loss.shallow_clone();
        while let Some(pass) = passes.pop() {
            // Earlier passes need the graph of the loss again; the first frees it and reaches
            // everything else.
            let gradient = if passes.is_empty() {
                loss.backward();
                pass.output.grad()
            } else {
                Tensor::run_backward(&[&loss], &[&pass.output], true, false)
                    .pop()
                    .expect("one for each input")
            };
            let (tiles, cut) = (pass.tiles.shallow_clone(), pass.cut.shallow_clone());
            pass.backward(gradient, stages);
            if cut.requires_grad() {
                // A new tensor, because `+=` would change the caller's loss.
                loss = &loss + product(&tiles, &cut.grad());
            }
        }
    }
}

impl Pass {
    /// Propagates the gradient of the output, [B, T, E], through the blocks and the embedding.
    fn backward(self, gradient: Tensor, stages: &Stages<'_>) {
        let blocks = self.inputs.into_iter().enumerate().rev();
        let gradient = blocks.fold(gradient, |gradient, (i, input)| {
            let input = input.set_requires_grad(true);
            product(&(stages.block)(i, &input), &gradient).backward();
            input.grad()
        });
        product(&self.embedded, &gradient).backward();
    }
}

/// Computes ⟨value, gradient⟩, whose derivative with respect to `value` is `gradient`.
fn product(value: &Tensor, gradient: &Tensor) -> Tensor {
    (value * gradient).sum(tch::Kind::Float)
}
