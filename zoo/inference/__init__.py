"""What models are used for: generate, translate, classify and so on."""
