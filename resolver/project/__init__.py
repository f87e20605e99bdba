"""The ports of a project by the names of its services: the project file, variables, standards."""
