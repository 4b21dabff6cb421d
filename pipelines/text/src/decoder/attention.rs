//! A layer's attention: projections, the norm of queries and keys, rotation, the cache, the kernel.

use candle_core::Tensor;
use chandler_nn::attention::{AttentionConfig, paged_attention};
use chandler_nn::kv_cache::KvCache;
use chandler_nn::lora::{AdapterRows, Projection};
use chandler_nn::norm::Norm;
use chandler_nn::rope::Rotation;

use super::Pass;
use super::projection::project;
use crate::config::QueryKeyNorm;
use crate::error::Result;

/// The attention of one layer.
pub(super) struct Attention {
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) output: Projection,
    pub(super) norms: Option<QueryKeyNorms>,
    /// Which of the model's rotations turns queries and keys.
    pub(super) rope: Option<usize>,
    pub(super) config: AttentionConfig,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

/// The norms of queries and keys, before they are rotated.
pub(super) struct QueryKeyNorms {
    pub(super) over: QueryKeyNorm,
    pub(super) query: Norm,
    pub(super) key: Norm,
}

/// Where in a pass a layer works.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The layer's number.
    pub(super) index: usize,
    pub(super) pass: &'a Pass<'a>,
    /// One for each of the model's rotary embeddings.
    pub(super) rotations: &'a [Rotation],
    /// Which rows go through which adapter.
    pub(super) adapters: &'a AdapterRows,
}

impl Attention {
    pub(super) fn bytes(&self) -> usize {
        let linears = [&self.query, &self.key, &self.value, &self.output];
        let norms = self.norms.as_ref();
        linears.iter().map(|linear| linear.bytes()).sum::<usize>()
            + norms.map_or(0, |norms| norms.query.bytes() + norms.key.bytes())
    }

    /// `x` [rows, hidden] to [rows, hidden]; the rows' keys and values are in the cache then.
    pub(super) fn forward(&self, x: &Tensor, at: &At<'_>, cache: &mut KvCache) -> Result<Tensor> {
        let [query, key, value] = project([&self.query, &self.key, &self.value], x, at.adapters)?;
        let norms = self.norms.as_ref();
        let query = self.heads_of(query, self.heads, norms.map(|n| (&n.query, n.over)), at)?;
        let key = self.heads_of(key, self.kv_heads, norms.map(|n| (&n.key, n.over)), at)?;
        let value = value.reshape((at.pass.positions.len(), self.kv_heads, self.head_dim))?;
        cache.write(at.index, &key, &value, at.pass.slots)?;
        let attended = paged_attention(&query, cache, at.index, at.pass.spans, &self.config)?;
        let [output] = project([&self.output], &attended, at.adapters)?;
        Ok(output)
    }

    /// Queries or keys [rows, heads · head_dim] as heads, normed and rotated.
    fn heads_of(
        &self,
        x: Tensor,
        heads: usize,
        norm: Option<(&Norm, QueryKeyNorm)>,
        at: &At<'_>,
    ) -> Result<Tensor> {
        let rows = at.pass.positions.len();
        let part = |x: Tensor| x.reshape((rows, heads, self.head_dim));
        let x = match norm {
            Some((norm, QueryKeyNorm::All)) => part(norm.forward(&x)?)?,
            Some((norm, QueryKeyNorm::Head)) => norm.forward(&part(x)?)?,
            None => part(x)?,
        };
        match self.rope.and_then(|rope| at.rotations.get(rope)) {
            Some(rotation) => Ok(rotation.apply(&x)?),
            None => Ok(x),
        }
    }
}
