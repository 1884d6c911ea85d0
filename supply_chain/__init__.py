"""What the project installs: known vulnerabilities and licences (``audit``), and a bill of materials (``sbom``).

These are tools of developers and CI. Nothing here is imported by the package, and nothing here is in the image.
"""
