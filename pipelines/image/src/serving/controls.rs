//! ControlNets beside a model: which there are, what a request wants of them, and what they say of the rows of a pass. Apart from the
//! denoiser, which adds it. After `diffusers` pipeline_controlnet.py and its likes (`prepare_image`, `controlnet_keep`), and for
//! several at once multicontrolnet.py.

use candle_core::{Device, Tensor};
use chandler_core::{Control, RequestError};
use chandler_nn::weights::Snapshot;

use super::frame::Frame;
use crate::autoencoder::AutoencoderConfig;
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::pixels::{Pixels, Size};
use crate::unet::{
    ContractingConfig, ControlInput, ControlNet, ControlNetConfig, Residuals, TextTime,
};

/// Pictures that steer one drawing at most.
const MOST_CONTROLS: usize = 8;
/// How strongly one may steer.
const MOST_SCALE: f64 = 10.0;
/// Channels of a picture.
const COLOURS: usize = 3;

/// The ControlNets of a loaded model.
#[derive(Default)]
pub(super) struct Nets(Vec<(String, ControlNet)>);

/// A picture that steers a request's drawings.
pub(super) struct Steering {
    /// Which of the ControlNets looks at it.
    net: usize,
    /// [3, height, width] from 0 to 1.
    pixels: Vec<f32>,
    size: Size,
    scale: f64,
    /// The part of the steps that it steers.
    part: [f64; 2],
    /// What the ControlNet makes of the picture, once for all steps: [1, channels, rows, columns], on the device.
    embedded: Option<Tensor>,
}

/// What ControlNets look at in a pass: a row of everything for each of the denoiser's.
pub(super) struct Rows<'a> {
    /// [rows, channels, height, width], scaled as the denoiser's, without a mask.
    pub(super) latents: &'a Tensor,
    pub(super) timesteps: &'a [f64],
    /// Each [1, words, width].
    pub(super) words: &'a [Tensor],
    /// Each [1, width]; none for models that are told no sizes.
    pub(super) pooled: &'a [Tensor],
    pub(super) ids: &'a [Vec<f64>],
    /// What steers each row now, in the request's order, and how strongly.
    pub(super) steering: &'a [Vec<(&'a Steering, f64)>],
}

impl Nets {
    /// Loads ControlNets in the diffusers layout for a model.
    ///
    /// # Errors
    /// Names the ControlNet, and the file, field or tensor at fault, or in what it does not go with the model.
    pub(super) fn load(
        found: &[(String, Snapshot)],
        model: (Option<&ContractingConfig>, &AutoencoderConfig),
        placement: &Placement,
    ) -> Result<Self> {
        let one = |(name, snapshot): &(String, Snapshot)| -> Result<(String, ControlNet)> {
            let config = ControlNetConfig::read(snapshot, "config.json")?;
            let (Some(unet), vae) = model else {
                let message = "this model is no UNet of Stable Diffusion 1, 2 or XL, which are those that are steered";
                return Err(ImageError::Input(message.to_owned()));
            };
            check(&config, (unet, vae))?;
            let weights = snapshot.part_weights()?;
            weights.prefetch(&|_, _| {})?;
            let loader = Loader::new(weights.as_ref(), placement);
            Ok((name.clone(), ControlNet::load(&loader, &config)?))
        };
        let named = |found: &(String, Snapshot)| {
            one(found).map_err(|error| ImageError::Input(format!("control {}: {error}", found.0)))
        };
        found.iter().map(named).collect::<Result<_>>().map(Self)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, net)| net.bytes()).sum()
    }

    /// What all of them say, for all rows; nothing when nobody steers. A row's own has the same bits whatever the others ask for.
    pub(super) fn residuals(&self, rows: &Rows<'_>) -> Result<Option<Residuals>> {
        let most = rows.steering.iter().map(Vec::len).max().unwrap_or(0);
        let mut each: Vec<Vec<Residuals>> = rows.steering.iter().map(|_| Vec::new()).collect();
        for place in 0..most {
            for (number, (_, net)) in self.0.iter().enumerate() {
                let steered = rows.steered(number, place);
                if steered.is_empty() {
                    continue;
                }
                let said = rows.ask(net, &steered)?;
                for (at, (row, ..)) in steered.iter().enumerate() {
                    if let Some(each) = each.get_mut(*row) {
                        each.push(said.row(at)?);
                    }
                }
            }
        }
        let each = each
            .into_iter()
            .map(Residuals::sum)
            .collect::<Result<Vec<_>>>()?;
        Residuals::of_rows(&each)
    }
}

/// Whether a ControlNet goes with a model: it leaves what the model takes, and looks at what the model looks at.
fn check(
    config: &ControlNetConfig,
    (model, vae): (&ContractingConfig, &AutoencoderConfig),
) -> Result<()> {
    let context = |config: &ContractingConfig| config.mid.as_ref().map(|mid| mid.sizes.context);
    let own = &config.contracting;
    let pairs = [
        (
            "channels that its blocks leave",
            format!("{:?}", own.skip_channels()),
            format!("{:?}", model.skip_channels()),
        ),
        (
            "cross_attention_dim",
            format!("{:?}", context(own)),
            format!("{:?}", context(model)),
        ),
        (
            "addition_embed_type and its sizes",
            format!("{:?}", own.text_time),
            format!("{:?}", model.text_time),
        ),
        (
            "in_channels",
            own.in_channels.to_string(),
            vae.latent_channels.to_string(),
        ),
        (
            "pixels of a latent's side",
            config.pixels().to_string(),
            vae.pixels().to_string(),
        ),
        (
            "conditioning_channels",
            config.conditioning_channels.to_string(),
            COLOURS.to_string(),
        ),
    ];
    match pairs.iter().find(|(_, own, wanted)| own != wanted) {
        None => Ok(()),
        Some((what, own, wanted)) => Err(ImageError::Input(format!(
            "{what}: {own}, and {wanted} would go with this model; it was trained for another family"
        ))),
    }
}

impl Rows<'_> {
    /// The rows that a ControlNet steers in a place of their request's list, with the picture and how strongly.
    fn steered(&self, net: usize, place: usize) -> Vec<(usize, &Steering, f64)> {
        let rows = self.steering.iter().enumerate();
        rows.filter_map(|(row, steering)| {
            let (steering, scale) = steering.get(place)?;
            (steering.net == net).then_some((row, *steering, *scale))
        })
        .collect()
    }

    fn ask(&self, net: &ControlNet, steered: &[(usize, &Steering, f64)]) -> Result<Residuals> {
        let latents = steered
            .iter()
            .map(|(row, ..)| Ok(self.latents.narrow(0, *row, 1)?));
        let pictures = steered.iter().map(|(_, steering, _)| {
            let embedded = steering.embedded.as_ref();
            embedded
                .cloned()
                .ok_or_else(|| lost("the picture that steers a drawing"))
        });
        let contexts = steered.iter().map(|(row, ..)| {
            let context = self.words.get(*row);
            context
                .cloned()
                .ok_or_else(|| lost("the words of a drawing"))
        });
        let pooled = steered
            .iter()
            .filter_map(|(row, ..)| self.pooled.get(*row).cloned());
        let pooled: Vec<Tensor> = pooled.collect();
        let ids = steered
            .iter()
            .filter_map(|(row, ..)| self.ids.get(*row).cloned());
        let ids: Vec<Vec<f64>> = ids.collect();
        let timesteps = steered
            .iter()
            .filter_map(|(row, ..)| self.timesteps.get(*row).copied());
        let timesteps: Vec<f64> = timesteps.collect();
        let scales: Vec<f64> = steered.iter().map(|(.., scale)| *scale).collect();
        let text_embeds = match ids.is_empty() {
            true => None,
            false => Some(Tensor::cat(&pooled, 0)?),
        };
        net.forward(&ControlInput {
            latents: &stacked(latents)?,
            conditions: &stacked(pictures)?,
            timesteps: &timesteps,
            context: &stacked(contexts)?,
            text_time: text_embeds.as_ref().map(|text_embeds| TextTime {
                text_embeds,
                time_ids: &ids,
            }),
            scales: &scales,
        })
    }
}

fn stacked(tensors: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let tensors: Vec<Tensor> = tensors.collect::<Result<_>>()?;
    Ok(Tensor::cat(&tensors, 0)?)
}

impl Steering {
    /// What a request wants of ControlNets of these names, its pictures decoded one by one and brought to a size.
    ///
    /// # Errors
    /// Names the field, what it said and what would do.
    pub(super) fn read(
        controls: &[Control],
        names: &[String],
        frame: &Frame,
    ) -> Result<Vec<Self>, RequestError> {
        if !controls.is_empty() && names.is_empty() {
            let message = "this worker has no ControlNet; one is loaded with --control NAME=PLACE";
            return Err(RequestError::unsupported("controls", message));
        }
        if controls.len() > MOST_CONTROLS {
            let message = format!(
                "controls has {} entries; it may have at most {MOST_CONTROLS}",
                controls.len()
            );
            return Err(RequestError::field("controls", message));
        }
        let one = |(n, control)| Self::of(control, &format!("controls[{n}]"), (names, frame));
        controls.iter().enumerate().map(one).collect()
    }

    fn of(
        control: &Control,
        place: &str,
        (names, frame): (&[String], &Frame),
    ) -> Result<Self, RequestError> {
        let refuse = |field: &str, message: String| {
            let field = format!("{place}.{field}");
            let message = format!("{field} {message}");
            RequestError::field(field, message)
        };
        let net = match &control.model {
            None => 0,
            Some(wanted) => names
                .iter()
                .position(|name| name == wanted)
                .ok_or_else(|| {
                    refuse(
                        "model",
                        format!("is {wanted:?}; this worker has {}", names.join(", ")),
                    )
                })?,
        };
        if !(0.0..=MOST_SCALE).contains(&control.scale) {
            let message = format!(
                "is {}; it must be between 0 and {MOST_SCALE}",
                control.scale
            );
            return Err(refuse("scale", message));
        }
        if !(0.0 <= control.start && control.start < control.end && control.end <= 1.0) {
            let message = format!(
                "is {}, with an end of {}; 0 ≤ start < end ≤ 1 is wanted",
                control.start, control.end
            );
            return Err(refuse("start", message));
        }
        let field = format!("{place}.image");
        let picture = frame.of(Pixels::decode(&control.image, &field)?, &field)?;
        Ok(Self {
            net,
            pixels: picture.unit_rgb(frame.size),
            size: frame.size,
            scale: control.scale,
            part: [control.start, control.end],
            embedded: None,
        })
    }

    /// How strongly it steers the coming one of so many calls; nothing where it does not.
    pub(super) fn now(&self, (calls, done): (usize, usize)) -> Option<f64> {
        let at = |call: usize| call as f64 / calls as f64;
        let [start, end] = self.part;
        let off = at(done) < start || at(done + 1) > end || self.scale == 0.0;
        (!off).then_some(self.scale)
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    pub(super) fn leave_device(&mut self) {
        self.embedded = None;
    }

    /// Bytes on the host.
    pub(super) fn bytes(&self) -> usize {
        4 * self.pixels.len()
    }

    /// Has its ControlNet look at the picture.
    pub(super) fn embed(&mut self, nets: &Nets, placement: &Placement) -> Result<()> {
        let (_, net) = nets.0.get(self.net).ok_or_else(|| lost("a ControlNet"))?;
        let shape = (
            1,
            COLOURS,
            self.size.height as usize,
            self.size.width as usize,
        );
        let picture = Tensor::from_slice(&self.pixels, shape, &Device::Cpu)?;
        self.embedded = Some(net.embed(&placement.move_in(&picture)?)?);
        Ok(())
    }
}

fn lost(what: &str) -> ImageError {
    ImageError::Input(format!("{what} is not where it was put"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_steps_is_counted_as_diffusers_counts_it() {
        let steering = |start: f64, end: f64| Steering {
            net: 0,
            pixels: Vec::new(),
            size: Size {
                width: 1,
                height: 1,
            },
            scale: 0.5,
            part: [start, end],
            embedded: None,
        };
        let kept = |start: f64, end: f64| -> Vec<bool> {
            let one = steering(start, end);
            (0..5).map(|done| one.now((5, done)).is_some()).collect()
        };
        // `[1.0 - float(i / 5 < s or (i + 1) / 5 > e) for i in range(5)]`
        assert_eq!(kept(0.0, 1.0), [true; 5]);
        assert_eq!(kept(0.3, 1.0), [false, false, true, true, true]);
        assert_eq!(kept(0.0, 0.6), [true, true, true, false, false]);
        assert_eq!(kept(0.0, 0.19), [false; 5]);
    }
}
