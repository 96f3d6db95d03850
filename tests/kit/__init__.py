"""What tests share: networks, files, boards, fakes; imported by name, as ``kit.networks``."""
