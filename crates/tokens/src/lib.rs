//! Tokenizer and chat template: conversations to masked samples to packed batches.
