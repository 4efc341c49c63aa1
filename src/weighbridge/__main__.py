from weighbridge.faces.cli import main

main()
