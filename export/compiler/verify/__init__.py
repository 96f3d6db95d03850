"""What is shown of a compiled model: references, agreement, proof."""
