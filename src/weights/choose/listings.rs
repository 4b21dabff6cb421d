//! Listings of well-known repositories, as they are on the hub but for the sizes, which are near enough.

/// gpt2: one model in the format of every framework there ever was.
pub const GPT2: &str = "
.gitattributes 445
64-8bits.tflite 125162496
64-fp16.tflite 248269688
64.tflite 495791932
README.md 8092
config.json 665
flax_model.msgpack 497764120
generation_config.json 124
merges.txt 456318
model.safetensors 548105171
onnx/config.json 879
onnx/decoder_model.onnx 653665842
onnx/decoder_model_merged.onnx 655188833
onnx/generation_config.json 119
onnx/merges.txt 456318
onnx/tokenizer.json 2107652
onnx/vocab.json 798156
pytorch_model.bin 548118077
rust_model.ot 702517648
tf_model.h5 497933648
tokenizer.json 1355256
tokenizer_config.json 26
vocab.json 1042301";

/// meta-llama/Llama-3.1-8B-Instruct: the publisher's own cut beside ours.
pub const LLAMA3: &str = "
.gitattributes 1519
LICENSE 7627
README.md 44043
USE_POLICY.md 4691
config.json 855
generation_config.json 184
model-00001-of-00004.safetensors 4976698672
model-00002-of-00004.safetensors 4999802720
model-00003-of-00004.safetensors 4915916176
model-00004-of-00004.safetensors 1168138808
model.safetensors.index.json 23950
original/consolidated.00.pth 16060617592
original/params.json 199
original/tokenizer.model 2183982
special_tokens_map.json 296
tokenizer.json 9085657
tokenizer_config.json 55351";

/// Qwen/Qwen2.5-14B-Instruct.
pub const QWEN: &str = "
.gitattributes 1519
LICENSE 11344
README.md 4948
config.json 663
generation_config.json 243
merges.txt 1671839
model-00001-of-00002.safetensors 3968658944
model-00002-of-00002.safetensors 2203268048
model.safetensors.index.json 35581
tokenizer.json 7031645
tokenizer_config.json 7305
vocab.json 2776833";

/// mistralai/Mistral-7B-Instruct-v0.3: everything twice.
pub const MISTRAL: &str = "
README.md 7880
config.json 601
consolidated.safetensors 14496078512
generation_config.json 116
model-00001-of-00003.safetensors 4949453792
model-00002-of-00003.safetensors 4999819336
model-00003-of-00003.safetensors 4546807800
model.safetensors.index.json 23950
params.json 202
special_tokens_map.json 414
tokenizer.json 1961548
tokenizer.model 587404
tokenizer.model.v3 587404
tokenizer_config.json 140874";

/// stabilityai/stable-diffusion-xl-base-1.0.
pub const SDXL: &str = "
.gitattributes 1564
01.png 5121000
LICENSE.md 14109
README.md 10041
comparison.png 120000
model_index.json 609
scheduler/scheduler_config.json 479
sd_xl_base_1.0.safetensors 6938078334
sd_xl_base_1.0_0.9vae.safetensors 6938078334
sd_xl_offset_example-lora_1.0.safetensors 49553604
text_encoder/config.json 565
text_encoder/flax_model.msgpack 492239260
text_encoder/model.fp16.safetensors 246144152
text_encoder/model.onnx 492587457
text_encoder/model.safetensors 492265168
text_encoder/openvino_model.bin 492242672
text_encoder/openvino_model.xml 1057789
text_encoder_2/config.json 575
text_encoder_2/model.fp16.safetensors 1389382176
text_encoder_2/model.onnx 1041992
text_encoder_2/model.onnx_data 2778639360
text_encoder_2/model.safetensors 2778702264
tokenizer/merges.txt 524619
tokenizer/special_tokens_map.json 472
tokenizer/tokenizer_config.json 737
tokenizer/vocab.json 1059962
tokenizer_2/merges.txt 524619
tokenizer_2/special_tokens_map.json 460
tokenizer_2/tokenizer_config.json 725
tokenizer_2/vocab.json 1059962
unet/config.json 1680
unet/diffusion_flax_model.msgpack 10269722260
unet/diffusion_pytorch_model.fp16.safetensors 5135149760
unet/diffusion_pytorch_model.safetensors 10270077736
unet/model.onnx 7293842
unet/model.onnx_data 10269854720
vae/config.json 642
vae/diffusion_pytorch_model.fp16.safetensors 167335342
vae/diffusion_pytorch_model.safetensors 334643268
vae_1_0/config.json 607
vae_1_0/diffusion_pytorch_model.fp16.safetensors 167335342
vae_1_0/diffusion_pytorch_model.safetensors 334643268
vae_decoder/config.json 607
vae_decoder/model.onnx 198093688
vae_encoder/config.json 607
vae_encoder/model.onnx 136775724";

/// The parts of that pipeline.
pub const SDXL_PARTS: &str = r#"{"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.19.0.dev0",
"force_zeros_for_empty_prompt": true, "add_watermarker": null, "scheduler": ["diffusers", "EulerDiscreteScheduler"],
"text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
"tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
"image_encoder": [null, null]}"#;

/// openai/whisper-large-v3: another precision that is marked, and an index for it.
pub const WHISPER: &str = "
.gitattributes 1519
README.md 21800
added_tokens.json 34648
config.json 1272
flax_model.msgpack 3086998222
generation_config.json 3903
merges.txt 493869
model.fp32-00001-of-00002.safetensors 4993448880
model.fp32-00002-of-00002.safetensors 1180663192
model.safetensors 3087130976
model.safetensors.index.fp32.json 117893
normalizer.json 52666
preprocessor_config.json 340
pytorch_model.bin 3087388574
pytorch_model.bin.index.fp32.json 118019
pytorch_model.fp32-00001-of-00002.bin 4993677398
pytorch_model.fp32-00002-of-00002.bin 1180749890
special_tokens_map.json 2072
tokenizer.json 2480617
tokenizer_config.json 282843
vocab.json 1036558";

/// bartowski/Llama-3.3-70B-Instruct-GGUF, in part.
pub const GGUF: &str = "
.gitattributes 4096
Llama-3.3-70B-Instruct-IQ4_XS.gguf 37902661536
Llama-3.3-70B-Instruct-Q4_0.gguf 40116534176
Llama-3.3-70B-Instruct-Q4_K_M.gguf 42520395680
Llama-3.3-70B-Instruct-Q4_K_S.gguf 40347219872
Llama-3.3-70B-Instruct-Q8_0/Llama-3.3-70B-Instruct-Q8_0-00001-of-00002.gguf 39808489152
Llama-3.3-70B-Instruct-Q8_0/Llama-3.3-70B-Instruct-Q8_0-00002-of-00002.gguf 35166606976
Llama-3.3-70B-Instruct.imatrix 24922254
README.md 18000";

/// sentence-transformers/all-MiniLM-L6-v2, in part.
pub const MINILM: &str = "
1_Pooling/config.json 190
README.md 10454
config.json 612
config_sentence_transformers.json 116
data_config.json 39265
model.safetensors 90868376
modules.json 349
onnx/model.onnx 90405214
openvino/openvino_model.bin 90265744
openvino/openvino_model.xml 211315
pytorch_model.bin 90888945
rust_model.ot 90887379
sentence_bert_config.json 53
special_tokens_map.json 112
tf_model.h5 91005696
tokenizer.json 466247
tokenizer_config.json 350
train_script.py 13156
vocab.txt 231508";

/// facebook/mms-1b-all, in part: two of 1162 languages, each twice.
pub const MMS: &str = "
.gitattributes 1520
README.md 27200
adapter.abi.bin 8812000
adapter.abi.safetensors 8798532
adapter.fra.bin 8812000
adapter.fra.safetensors 8809208
config.json 2040
model.safetensors 3858974808
preprocessor_config.json 254
pytorch_model.bin 3859131849
special_tokens_map.json 96
tokenizer_config.json 397
vocab.json 1012000";

/// An adapter as peft's trainer pushes it.
pub const ADAPTER: &str = "
.gitattributes 1519
README.md 5100
adapter_config.json 740
adapter_model.safetensors 83945296
checkpoint-500/adapter_config.json 740
checkpoint-500/adapter_model.safetensors 83945296
checkpoint-500/optimizer.pt 168149074
checkpoint-500/rng_state.pth 14244
special_tokens_map.json 434
tokenizer.json 3505621
tokenizer_config.json 1378
training_args.bin 5176";
