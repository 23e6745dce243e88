//! Gradient checkpointing: activations computed again instead of kept (Chen et al. 2016, arXiv 1604.06174).
//!
//! The forward pass keeps what goes into each block and nothing from within it; the backward pass runs one block at a
//! time again, with a graph. Memory for one block in place of all, for one more forward pass in time. It knows nothing of
//! what a block computes, only that the same input gives the same output.
//!
//! A loss that encodes tiles made from earlier encodings has a graph that runs through several passes. Each pass is
//! cut off at both ends, and `Tape::backward` walks the passes from the last to the first: the gradient at the output of a
//! pass, back through its blocks to its tiles, and from there into the graph of the loss as ⟨tiles, their gradient⟩.

use std::cell::RefCell;

use tch::{Tensor, no_grad};

/// One pass of tiles through the blocks.
struct Pass {
    /// [B, C, H, W] with the graph that made them, and the same cut off from it.
    tiles: Tensor,
    cut: Tensor,
    /// [B, T, E] with the graph from `cut`.
    embedded: Tensor,
    /// What went into each block, [B, T, E] each, without graphs.
    inputs: Vec<Tensor>,
    /// What came out of the last block, where the graph of the loss begins.
    output: Tensor,
}

/// The passes since the last `backward`.
#[derive(Default)]
pub(crate) struct Tape {
    passes: RefCell<Vec<Pass>>,
}

/// The two parts of a pass.
pub(crate) struct Parts<'a> {
    /// Tiles [B, C, H, W] → [B, T, E].
    pub embed: &'a dyn Fn(&Tensor) -> Tensor,
    pub blocks: usize,
    /// [B, T, E] → [B, T, E].
    pub block: &'a dyn Fn(usize, &Tensor) -> Tensor,
}

impl Tape {
    /// Tiles [B, C, H, W] → [B, T, E], a leaf whose gradient `backward` carries on. Where no gradients are asked for,
    /// nothing is kept.
    pub(crate) fn forward(&self, tiles: &Tensor, parts: &Parts<'_>) -> Tensor {
        let cut = tiles.detach().set_requires_grad(tiles.requires_grad());
        let embedded = (parts.embed)(&cut);
        if !embedded.requires_grad() {
            return (0..parts.blocks).fold(embedded, |x, i| (parts.block)(i, &x));
        }
        let mut inputs = Vec::with_capacity(parts.blocks);
        let output = no_grad(|| {
            (0..parts.blocks).fold(embedded.detach(), |x, i| {
                let next = (parts.block)(i, &x);
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

    /// `loss.backward()` through all passes since the last one.
    pub(crate) fn backward(&self, loss: &Tensor, parts: &Parts<'_>) {
        let mut passes = std::mem::take(&mut *self.passes.borrow_mut());
        let mut loss = loss.shallow_clone();
        while let Some(pass) = passes.pop() {
            // Earlier passes need the graph of the loss once more; the first uses it up and reaches everything else.
            let gradient = if passes.is_empty() {
                loss.backward();
                pass.output.grad()
            } else {
                Tensor::run_backward(&[&loss], &[&pass.output], true, false)
                    .pop()
                    .expect("one for each input")
            };
            let (tiles, cut) = (pass.tiles.shallow_clone(), pass.cut.shallow_clone());
            pass.backward(gradient, parts);
            if cut.requires_grad() {
                // Another tensor: `+=` would change the caller's loss.
                loss = &loss + product(&tiles, &cut.grad());
            }
        }
    }
}

impl Pass {
    /// `gradient` [B, T, E] of the output, through the blocks and the embedding.
    fn backward(self, gradient: Tensor, parts: &Parts<'_>) {
        let blocks = self.inputs.into_iter().enumerate().rev();
        let gradient = blocks.fold(gradient, |gradient, (i, input)| {
            let input = input.set_requires_grad(true);
            product(&(parts.block)(i, &input), &gradient).backward();
            input.grad()
        });
        product(&self.embedded, &gradient).backward();
    }
}

/// ⟨value, gradient⟩, whose derivative by `value` is `gradient`.
fn product(value: &Tensor, gradient: &Tensor) -> Tensor {
    (value * gradient).sum(tch::Kind::Float)
}
