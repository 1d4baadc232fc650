"""Which axes of the shared layers' parameters may be split over devices."""

# Pattern of a parameter's path -> one mesh axis, or None, per axis of the parameter. Wide axes
# (vocabulary, heads, feed-forward) go to `tensor`, the model's width to `fsdp`.
AXES = (
    (r"embedding$", ("tensor", "fsdp")),
    (r"(query|key|value)/kernel$", ("fsdp", "tensor", None)),
    (r"(query|key|value)/bias$", ("tensor", None)),
    (r"output/kernel$", ("tensor", None, "fsdp")),
    (r"up/kernel$", ("fsdp", "tensor")),
    (r"up/bias$", ("tensor",)),
    (r"down/kernel$", ("tensor", "fsdp")),
)
