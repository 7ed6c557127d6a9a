"""Plug-ins that each use one part of what methods may do beside a loss."""
