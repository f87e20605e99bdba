"""Lending ports by python_portpicker's protocol."""
