"""What was measured on GPUs: one door to data/recordings, which checks what each recording was made from."""
