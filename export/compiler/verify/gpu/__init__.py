"""An emulated GPU: PTX decoded, and run by ``machine.c`` with every access checked and counted."""
