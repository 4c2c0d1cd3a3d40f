"""Who one is, whom one knows, whom one admits: keys and the files that hold them."""
