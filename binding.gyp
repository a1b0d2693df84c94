{
  # For tools that look for this file. The sources are listed in CMakeLists.txt, and only there.
  'targets': [
    {
      'target_name': 'stpd_native',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake',
          'inputs': ['CMakeLists.txt'],
          'outputs': ['<(PRODUCT_DIR)/stpd_native.stamp'],
          'action': ['node', 'scripts/install.mjs', '--gyp-stamp', '<@(_outputs)'],
        },
      ],
    },
  ],
}
