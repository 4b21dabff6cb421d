//! The autoencoders: pictures to latents and back, and the tiny decoder of previews.
